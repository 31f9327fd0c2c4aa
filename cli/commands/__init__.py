"""One file per command; each is loaded when it is called."""
