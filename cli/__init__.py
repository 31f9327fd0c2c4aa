"""The command line `privpart-keras`: one file a command; each parses, calls the library, prints."""
