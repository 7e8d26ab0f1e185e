"""Benchmarks: `python -m bench NAME --json`. They measure and print; they never judge."""
