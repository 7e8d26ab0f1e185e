"""Runs of experiments: their status, sensors, metrics, artifacts and annotations."""
