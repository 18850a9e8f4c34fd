"""Rows of Parquet files that are read by workers, as Arrow, of a list that is made once."""
