"""Trains diffusion models on finished preference pairs."""
