"""Sparse backpropagation: which entries of the output gradient flow back, and what is remembered of the rest."""

import importlib
from typing import Any

from sparsetrain.backward import row_sparse
from sparsetrain.backward.conv_general import sparse_conv_general
from sparsetrain.backward.dense import dense
from sparsetrain.backward.dot_general import sparse_dot_general
from sparsetrain.backward.grouped import grouped_top_k
from sparsetrain.backward.memorized import memorized_top_k
from sparsetrain.backward.memory import carry_memory, rescale_memory, unscale
from sparsetrain.backward.random_k import random_k
from sparsetrain.backward.rule import BackwardRule, Selection
from sparsetrain.backward.top_k import top_k
from sparsetrain.backward.unified import unified_top_k

# Rule by name, for configs and for the contract tests. A new rule is one file and one line here.
RULES = {
    "dense": dense,
    "grouped_top_k": grouped_top_k,
    "memorized_top_k": memorized_top_k,
    "random_k": random_k,
    "top_k": top_k,
    "unified_top_k": unified_top_k,
}

__all__ = [
    "RULES",
    "BackwardRule",
    "Selection",
    "carry_memory",
    "dense",
    "grouped_top_k",
    "linen",
    "memorized_top_k",
    "nnx",
    "random_k",
    "rescale_memory",
    "row_sparse",
    "sparse_conv_general",
    "sparse_dot_general",
    "top_k",
    "unified_top_k",
    "unscale",
]


def __getattr__(name: str) -> Any:
    # The adapters import flax, which the core does not depend on.
    if name in ("linen", "nnx"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
