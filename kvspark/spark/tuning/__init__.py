"""What `kvspark tune` measures: the job on a sample of its own rows, in Spark."""
