"""Measurements: `python -m benchmarks.<name>`, one file a claim of the README."""
