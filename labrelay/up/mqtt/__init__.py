"""A small MQTT 3.1.1 broker for one machine, used where Mosquitto is not installed."""
