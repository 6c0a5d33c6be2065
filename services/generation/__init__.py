"""Prompts to images."""
