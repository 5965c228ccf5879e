"""Hot operations, one folder each: its definition in plain JAX, and kernels for GPU and TPU."""

from sparsetrain.kernels.block_top_k_feedback import block_top_k_feedback
from sparsetrain.kernels.dispatch import IMPLEMENTATIONS

__all__ = ["IMPLEMENTATIONS", "block_top_k_feedback"]
