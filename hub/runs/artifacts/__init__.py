"""Artifacts of runs: what is said of them, and their contents where the hub keeps those."""
