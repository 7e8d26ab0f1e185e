"""What agent and hub both speak: readings, batches, the wire, topics, messages, conversion, errors, time."""
