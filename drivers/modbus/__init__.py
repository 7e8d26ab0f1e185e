"""Modbus TCP, RTU and ASCII: registers and coils, read in as few requests as possible."""
