"""Trains diffusion models on finished preference pairs.

Shapes in names, here and below: B pairs of a batch, I and J pairs of the effective batch (over all processes
and accumulated micro-batches), C channels, H and W latent pixels, L tokens, D their width, P the width of a
pooled prompt, E that of a relation embedding.
"""
