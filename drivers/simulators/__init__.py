"""Instruments that do not exist, behind real sockets and real serial lines. Never imported by the drivers."""
