"""What is read: streams of committed readings, live values, queries, aggregates."""
