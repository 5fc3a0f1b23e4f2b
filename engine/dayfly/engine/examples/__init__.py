"""Example policies, shipped as package data."""
