"""Mistakes that others made in differential privacy, made again in our code, and the checks that must notice them."""
