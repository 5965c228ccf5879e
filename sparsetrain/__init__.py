"""Sparse training for JAX: keep the largest entries, remember the rest."""

__version__ = "0.1.0"
