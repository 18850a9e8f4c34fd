"""Files of HDFS as objects."""
