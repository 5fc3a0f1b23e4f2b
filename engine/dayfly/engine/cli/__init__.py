"""Dayfly engine: cli."""
