"""What a text of Spark SQL says of itself, known without Spark."""
