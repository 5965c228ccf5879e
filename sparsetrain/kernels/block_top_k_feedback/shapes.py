"""Sizes that tests and benchmarks share: (entries, block, kept of a block)."""

RESNET50 = (25_600_000, 4096, 41)
LENET5_HIDDEN = (400_000, 1024, 10)
SMALL = (3 * 1024, 1024, 11)
