"""Annotations: what people note at a moment of a run."""
