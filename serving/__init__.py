"""What every HTTP process shares: application, problems, health, metrics, admission, micro-batching, memo."""
