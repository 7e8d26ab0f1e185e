"""Sensors attached to runs: the ones that its sessions record. A run without any records what is free."""
