"""A listener for JSON lines by TCP, UDP and HTTP, so that any script is an instrument."""
