"""What is written: batches of agents and posts of sensors, on their way into the database."""
