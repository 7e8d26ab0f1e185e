"""The disk queue between taking a sample and the hub's acknowledgement."""
