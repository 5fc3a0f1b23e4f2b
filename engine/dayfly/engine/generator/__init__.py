"""Dayfly engine: generator."""
