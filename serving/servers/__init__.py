"""Starts servers, configures them, and writes the files that deploy them."""
