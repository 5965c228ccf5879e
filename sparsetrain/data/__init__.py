"""Data sets in memory, and the order in which they are seen."""

from sparsetrain.data.batches import batch_indices, epoch_permutation, steps_per_epoch
from sparsetrain.data.dataset import Dataset, Split
from sparsetrain.data.source import load

__all__ = ["Dataset", "Split", "batch_indices", "epoch_permutation", "load", "steps_per_epoch"]
