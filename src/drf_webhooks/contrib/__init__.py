"""Optional apps: what not every project needs, or not every database can do."""
