"""Tables of Apache Iceberg: what a run wrote becomes one snapshot."""
