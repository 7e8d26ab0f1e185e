"""Agents: enrolment, presence, and the configuration they work with."""
