"""The way to the hub: enrolment, connection, delivery, live values, time, commands."""
