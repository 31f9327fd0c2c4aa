"""Reconstruction of the input, one family per file."""
