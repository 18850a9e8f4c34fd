"""The commands of kvspark as files for spark-submit."""
