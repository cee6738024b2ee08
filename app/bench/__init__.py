"""``stoker bench``: how fast a server is, whichever it is, and how two of them compare."""
