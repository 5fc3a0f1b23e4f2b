"""Dayfly: federation."""
