"""Bytes and seconds of a step with 1, 2 and 4 real processes, on links of limited rate."""
