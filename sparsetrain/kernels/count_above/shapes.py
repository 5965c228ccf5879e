"""Sizes that tests and benchmarks share: entries."""

RESNET50 = 25_600_000
SMALL = 3 * 8192 + 5
