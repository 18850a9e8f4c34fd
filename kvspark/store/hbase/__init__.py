"""A store in an HBase table."""
