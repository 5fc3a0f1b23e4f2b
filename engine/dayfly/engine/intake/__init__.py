"""Dayfly engine: intake."""
