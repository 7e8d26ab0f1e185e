"""Capture sessions: the recorded stretches of runs, and which readings belong to them."""
