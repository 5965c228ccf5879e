"""Sizes that tests and benchmarks share: (B, O, I, block, chosen blocks)."""

TENTH = (8192, 4096, 4096, 128, 3)
TWENTIETH = (8192, 4096, 4096, 128, 2)
WIDE_TWENTIETH = (8192, 16384, 4096, 128, 6)
SMALL = (96, 512, 256, 128, 3)
