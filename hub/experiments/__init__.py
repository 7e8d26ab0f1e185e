"""Experiments: what is being investigated."""
