"""Defences in closed form: solved from a batch of examples, with no training."""
