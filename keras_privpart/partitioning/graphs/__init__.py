"""Keras graphs as plain data: read, addressed, separated, copied, put together again."""
