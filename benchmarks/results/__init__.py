"""Committed measurements, as package data: `intuitive.results`."""
