"""Bad rows of a table: set aside in a quarantine, or found for an error message."""
