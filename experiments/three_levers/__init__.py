"""Sparse backward pass, compressed exchange and sparse weights in one run, beside each alone and each pair."""
