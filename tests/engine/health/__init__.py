"""Tests of the health board."""
