"""Tests of delivery to CRMs."""
