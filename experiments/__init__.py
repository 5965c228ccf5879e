"""Command line and experiments; run from the root of the repository."""
