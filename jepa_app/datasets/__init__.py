"""Data sets of any length: shards are read ahead, scored or painted in batches, and written as parquet files."""
