"""Dayfly engine: lineage."""
