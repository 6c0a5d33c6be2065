"""Measurements: each is `python -m bench.NAME`, a table for people and, last, one line of JSON."""
