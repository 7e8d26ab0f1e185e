"""`labrelay up`: everything on one machine with Python alone, and nothing left behind when it ends."""
