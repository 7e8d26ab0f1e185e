"""Sensors, their tokens, and the profiles that convert their readings."""
