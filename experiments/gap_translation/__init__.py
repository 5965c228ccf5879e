"""Grow-and-prune on translation: a Transformer in three partitions, SacreBLEU on Multi30k."""
