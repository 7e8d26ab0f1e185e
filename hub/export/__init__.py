"""Lists as files to download: CSV or JSON of any length, sent while the database is read."""
