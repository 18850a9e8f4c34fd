"""Sources that Spark reads itself."""
