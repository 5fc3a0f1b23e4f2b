"""Tests of deident."""
