"""People's accounts: how they get in, stay in, and what they hand to their scripts."""
