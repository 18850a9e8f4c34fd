"""Reading one snapshot of an Iceberg table."""
