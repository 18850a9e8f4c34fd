"""The commands that need Spark: the scoring job, purge, warm and doctor."""
