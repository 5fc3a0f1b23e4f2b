"""Dayfly engine: shard."""
