"""Images scored under a prompt by reward models."""
