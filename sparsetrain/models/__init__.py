"""Plain models that know nothing of sparsity."""

from sparsetrain.models.mlp import MLP

__all__ = ["MLP"]
