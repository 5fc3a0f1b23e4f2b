"""Dayfly engine: runtime."""
