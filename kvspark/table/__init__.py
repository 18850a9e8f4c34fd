"""Tables as files: Arrow batches in, Parquet files and what is known of them out; no Spark."""
