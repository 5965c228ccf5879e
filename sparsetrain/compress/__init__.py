"""What workers send each other: compressors, memories, and the optax transformations that use them."""

from sparsetrain.compress.compressor import Aggregate, Compressor, LeafCompressor
from sparsetrain.compress.density import scheduled, warm_up
from sparsetrain.compress.ledger import Ledger, compression_ratio, report
from sparsetrain.compress.local_steps import LocalStepsState, local_steps, sync
from sparsetrain.compress.memory import no_memory, residual
from sparsetrain.compress.momentum import mask_momentum, momentum_correction
from sparsetrain.compress.sparse_binary import sbc, sparse_binary
from sparsetrain.compress.threshold import hard_threshold
from sparsetrain.compress.top_k import global_top_k, top_k
from sparsetrain.compress.transform import ExchangeState, exchange

# Compressor by name, for configs and for the contract tests. A new one is one file and one line here.
COMPRESSORS = {
    "global_top_k": global_top_k,
    "hard_threshold": hard_threshold,
    "sparse_binary": sparse_binary,
    "top_k": top_k,
}

__all__ = [
    "COMPRESSORS",
    "Aggregate",
    "Compressor",
    "ExchangeState",
    "LeafCompressor",
    "Ledger",
    "LocalStepsState",
    "compression_ratio",
    "exchange",
    "global_top_k",
    "hard_threshold",
    "local_steps",
    "mask_momentum",
    "momentum_correction",
    "no_memory",
    "report",
    "residual",
    "sbc",
    "scheduled",
    "sparse_binary",
    "sync",
    "top_k",
    "warm_up",
]
