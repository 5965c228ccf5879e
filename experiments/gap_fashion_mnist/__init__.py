"""Grow-and-prune against its rivals on Fashion-MNIST."""
