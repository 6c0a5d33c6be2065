"""Pairs as others read them: a folder in the layout of Pick-a-Pic v2, with a data-set card."""
