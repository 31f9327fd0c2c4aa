"""Reconstruction of the input, one family a file."""
