"""Benchmarks: `python -m tests.benchmarks`. Every figure is a ratio to a limit that the same run measured."""
