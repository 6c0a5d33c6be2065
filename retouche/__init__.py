"""Retouche: curate image preference pairs by critique and correction, and train on them."""

__version__ = "0.1.0"
