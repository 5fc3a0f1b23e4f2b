"""Policies as files: one frozen value, loaded from a folder of YAML documents."""
