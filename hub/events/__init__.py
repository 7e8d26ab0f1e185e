"""What was changed, by whom, and who is told: the audit, webhooks, event streams."""
