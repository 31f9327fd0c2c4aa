"""Prunes, clusters or quantises the device half, in a process of its own."""
