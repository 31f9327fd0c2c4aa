"""Inference of attributes, of the task's label and of membership, one family per file."""
