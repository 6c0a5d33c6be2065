"""Data sets that people have, as prompts and images to start from: files, folders, data sets of the Hub."""
