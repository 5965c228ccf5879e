"""Sizes that tests and benchmarks share: (M, I, O, block, share of live blocks)."""

TENTH = (8192, 4096, 4096, 128, 0.1)
TENTH_NARROW = (8192, 4096, 4096, 64, 0.1)
SMALL = (96, 384, 256, 128, 0.5)
