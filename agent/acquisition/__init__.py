"""From instrument to spool: schedules, a worker per bus, and the collector that converts and commits."""
