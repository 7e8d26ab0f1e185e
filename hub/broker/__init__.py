"""The hub's side of the MQTT broker: one connection, and the credentials of agents."""
