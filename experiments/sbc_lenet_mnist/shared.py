"""What SBC would send if tensors did not each pay for themselves: one message made again in other ways.

A mean takes 32 bits for every tensor, and a tensor of ten entries sends one of them however small the density.
Two cures are compared on the u of the last message, which is the same for all of them.
"""

from typing import Any

import jax
import numpy as np

from sparsetrain import selection
from sparsetrain.payload import golomb_parameter

WAYS = ("per tensor", "tree, one mean", "global counts, one mean a tensor")


def compare(u: Any, density: float) -> dict[str, dict[str, float]]:
    """Bits and captured share of u, the mean over clients.

    Args:
      u: tree of [W, ...] arrays, what each client's last message was made of.
      density: of the method.

    Returns:
      Way -> "bits", "entries" and "captured" = 1 - |u - C(u)|^2 / |u|^2.
    """
    by_tensor = [np.asarray(leaf) for leaf in jax.tree.leaves(u)]
    clients = len(by_tensor[0])
    found = {way: dict.fromkeys(("bits", "entries", "captured"), 0.0) for way in WAYS}
    for client in range(clients):
        leaves = [leaf[client].reshape(-1) for leaf in by_tensor]
        total = np.concatenate(leaves)
        k = selection.count(total.size, density)
        threshold = np.partition(np.abs(total), -k)[-k]
        messages = {
            "per tensor": [(leaf, selection.count(leaf.size, density)) for leaf in leaves],
            "tree, one mean": [(total, k)],
            # What DLS reaches: the layers' shares under one threshold. A layer without a share sends nothing.
            "global counts, one mean a tensor": [
                (leaf, int(np.sum(np.abs(leaf) >= threshold))) for leaf in leaves
            ],
        }
        norm = float(np.sum(total.astype(np.float64) ** 2))
        for way, parts in messages.items():
            for values, count in parts:
                if count:
                    bits, entries, captured = sent(values, count)
                    found[way]["bits"] += bits / clients
                    found[way]["entries"] += entries / clients
                    found[way]["captured"] += captured / norm / clients
    return found


def sent(values: np.ndarray, k: int) -> tuple[int, int, float]:
    """Payload bits, entries and captured squared norm of one array by SBC.

    In NumPy, because counts differ from client to client and each would compile anew; a test holds it to
    `compress.sparse_binary`.

    Args:
      values: [n] float.
      k: entries at most, at least 1.

    Returns:
      (bits, c, c mu^2).
    """
    sides = [np.maximum(sign * values, 0) for sign in (1, -1)]
    chosen = [np.argsort(-side, kind="stable")[:k] for side in sides]
    sums = [
        float(np.sum(side[at], dtype=np.float64)) for side, at in zip(sides, chosen, strict=True)
    ]
    winner = int(sums[1] > sums[0])
    at = np.sort(chosen[winner][sides[winner][chosen[winner]] > 0])
    b = golomb_parameter(k / values.size)
    gaps = np.diff(at, prepend=-1)
    bits = int(np.sum((gaps - 1) >> b)) + at.size * (1 + b) + 32
    return bits, at.size, sums[winner] ** 2 / max(1, at.size)
