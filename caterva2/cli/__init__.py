"""cat2cli: the subscriber's roots and files at the command line."""
