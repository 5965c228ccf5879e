"""What workers send each other: compressors, memories, and the optax transformations that use them."""

from collections.abc import Callable
from typing import Any

from sparsetrain.compress.by_path import by_path
from sparsetrain.compress.compressor import Aggregate, Compressor, LeafCompressor
from sparsetrain.compress.deep_gradient import deep_gradient, sampled_top_k
from sparsetrain.compress.dense import dense
from sparsetrain.compress.density import scheduled, warm_up
from sparsetrain.compress.global_merge import global_merge_top_k
from sparsetrain.compress.gradient_dropping import gradient_dropping
from sparsetrain.compress.layerwise import layerwise
from sparsetrain.compress.leader import leader_top_k, low_pass
from sparsetrain.compress.ledger import Ledger, compression_ratio, find_ledgers, report
from sparsetrain.compress.local_steps import LocalSteps, LocalStepsState, local_steps, sync
from sparsetrain.compress.low_rank import low_rank
from sparsetrain.compress.memory import no_memory, residual
from sparsetrain.compress.momentum import mask_momentum, momentum_correction
from sparsetrain.compress.natural import natural
from sparsetrain.compress.norm_proportional import norm_proportional
from sparsetrain.compress.ok_top_k import ok_top_k
from sparsetrain.compress.one_bit import one_bit
from sparsetrain.compress.quantize import quantize
from sparsetrain.compress.random_k import random_k
from sparsetrain.compress.sign import scaled_sign, sign
from sparsetrain.compress.sparse_binary import sbc, sparse_binary
from sparsetrain.compress.sparse_ternary import both_ways, sparse_ternary, stc
from sparsetrain.compress.ternary import ternary
from sparsetrain.compress.threshold import hard_threshold
from sparsetrain.compress.top_k import global_top_k, top_k
from sparsetrain.compress.transform import ExchangeState, exchange
from sparsetrain.compress.variance_ratio import gradient_scales, initial_densities, variance_ratio

# Compressor by name, for configs and for the contract tests. A new one is one file and one line here.
COMPRESSORS: dict[str, Callable[..., Any]] = {
    "dense": dense,
    "global_merge_top_k": global_merge_top_k,
    "global_top_k": global_top_k,
    "gradient_dropping": gradient_dropping,
    "hard_threshold": hard_threshold,
    "layerwise": layerwise,
    "leader_top_k": leader_top_k,
    "low_rank": low_rank,
    "natural": natural,
    "norm_proportional": norm_proportional,
    "ok_top_k": ok_top_k,
    "one_bit": one_bit,
    "quantize": quantize,
    "random_k": random_k,
    "sampled_top_k": sampled_top_k,
    "scaled_sign": scaled_sign,
    "sign": sign,
    "sparse_binary": sparse_binary,
    "sparse_ternary": sparse_ternary,
    "ternary": ternary,
    "top_k": top_k,
}

__all__ = [
    "COMPRESSORS",
    "Aggregate",
    "Compressor",
    "ExchangeState",
    "LeafCompressor",
    "Ledger",
    "LocalSteps",
    "LocalStepsState",
    "both_ways",
    "by_path",
    "compression_ratio",
    "deep_gradient",
    "dense",
    "exchange",
    "find_ledgers",
    "global_merge_top_k",
    "global_top_k",
    "gradient_dropping",
    "gradient_scales",
    "hard_threshold",
    "initial_densities",
    "layerwise",
    "leader_top_k",
    "local_steps",
    "low_pass",
    "low_rank",
    "mask_momentum",
    "momentum_correction",
    "natural",
    "no_memory",
    "norm_proportional",
    "ok_top_k",
    "one_bit",
    "quantize",
    "random_k",
    "report",
    "residual",
    "sampled_top_k",
    "sbc",
    "scaled_sign",
    "scheduled",
    "sign",
    "sparse_binary",
    "sparse_ternary",
    "stc",
    "sync",
    "ternary",
    "top_k",
    "variance_ratio",
    "warm_up",
]
