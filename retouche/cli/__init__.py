"""The command line: `retouche --help`."""
