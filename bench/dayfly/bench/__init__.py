"""Dayfly: bench."""
