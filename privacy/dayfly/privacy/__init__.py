"""Dayfly: privacy."""
