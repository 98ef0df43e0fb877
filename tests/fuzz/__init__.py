"""A fuzzer of the bus and of what daemons send one another over HTTP: `python -m tests.fuzz`."""
