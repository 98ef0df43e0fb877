"""cat2pub: a publisher shares one directory as a root, reads it and never writes to it."""
