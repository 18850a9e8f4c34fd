"""The Spark session: Java, the workers' Python, signals, and what Spark's errors mean."""
