"""Which exchange wins, with how many workers, on which network."""
