"""Completeness certificates: what became of every reading of a session, signed by the hub."""
