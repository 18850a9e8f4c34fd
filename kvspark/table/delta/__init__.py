"""Delta Lake: its log, schemas and statistics."""
