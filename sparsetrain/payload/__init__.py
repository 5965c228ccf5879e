"""What a compressed tensor is: pytrees of arrays that know their dense form and their exact size in bits."""

from sparsetrain.payload.base import Payload, is_payload
from sparsetrain.payload.bit_count import BitCount, total
from sparsetrain.payload.dense_at_first import DenseAtFirst
from sparsetrain.payload.position_code import golomb_parameter, parameter_of_count, position_bits
from sparsetrain.payload.sparse import (
    AgreedSparse,
    Sparse,
    SparseBinary,
    SparseTernary,
    beyond,
)
from sparsetrain.payload.sparse_tree import SparseTree
from sparsetrain.payload.whole import Dense, LowRank, Natural, Quantized, Sign

__all__ = [
    "AgreedSparse",
    "BitCount",
    "Dense",
    "DenseAtFirst",
    "LowRank",
    "Natural",
    "Payload",
    "Quantized",
    "Sign",
    "Sparse",
    "SparseBinary",
    "SparseTernary",
    "SparseTree",
    "beyond",
    "golomb_parameter",
    "is_payload",
    "parameter_of_count",
    "position_bits",
    "total",
]
