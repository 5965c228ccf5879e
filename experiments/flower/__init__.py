"""Compressed updates in a Flower app: some clients a round, unequal data, clients that fail and come back."""
