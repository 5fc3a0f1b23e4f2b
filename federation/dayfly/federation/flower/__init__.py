"""Flower as transport: the only package that imports it. Everything that is said through it is signed and checked elsewhere."""
