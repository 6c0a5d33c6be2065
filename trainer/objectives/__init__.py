"""What is minimised: each objective is a pure function in a file of its own, over the errors of a batch."""
