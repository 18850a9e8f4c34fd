"""The input: which files Spark will read, and what their footers say."""
