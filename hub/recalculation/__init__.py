"""Converting stored readings anew: tasks that go through a sensor's readings with another profile."""
