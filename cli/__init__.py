"""The command line `privpart-keras`: one file per command; each parses, calls the library, prints."""
