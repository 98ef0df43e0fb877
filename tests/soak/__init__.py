"""A soak: real processes that write, read and are killed for some minutes, and no answer may be wrong."""
