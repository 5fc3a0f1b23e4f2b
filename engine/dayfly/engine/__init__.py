"""Dayfly: engine."""
