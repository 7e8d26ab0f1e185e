"""Metrics of runs: numbers by name and step, as a training or an analysis reports them."""
