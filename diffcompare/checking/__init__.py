"""Checking derivatives without a tolerance."""
