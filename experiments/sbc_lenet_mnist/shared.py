"""What SBC would send if tensors did not each pay for themselves: one message made again in other ways.

A mean takes 32 bits for every tensor, and a tensor of ten entries sends one of them however small the density.
Two cures are compared on the u of the last message, which is the same for all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import compress, selection

WAYS = ("per tensor", "tree, one mean", "global counts, one mean a tensor")


def compare(u: Any, density: float) -> dict[str, dict[str, float]]:
    """Bits and captured share of u, the mean over clients.

    Args:
      u: tree of [W, ...] arrays, what each client's last message was made of.
      density: of the method.

    Returns:
      Way -> "bits", "entries" and "captured" = 1 - |u - C(u)|^2 / |u|^2.
    """
    clients = len(jax.tree.leaves(u)[0])
    found: dict[str, dict[str, float]] = {
        way: {"bits": 0.0, "entries": 0.0, "captured": 0.0} for way in WAYS
    }
    for client in range(clients):
        leaves = [leaf[client].reshape(-1) for leaf in jax.tree.leaves(u)]
        total = jnp.concatenate(leaves)
        k = selection.count(total.size, density)
        threshold = jnp.min(jax.lax.top_k(jnp.abs(total), k)[0])
        by_threshold = [int(jnp.sum(jnp.abs(leaf) >= threshold)) for leaf in leaves]
        messages = {
            "per tensor": [(leaf, density) for leaf in leaves],
            "tree, one mean": [(total, density)],
            # What DLS reaches: the layers' shares under one threshold. A layer without a share sends nothing.
            "global counts, one mean a tensor": [
                (leaf, count / leaf.size)
                for leaf, count in zip(leaves, by_threshold, strict=True)
                if count
            ],
        }
        for way, parts in messages.items():
            for name, value in measured(parts, total).items():
                found[way][name] += value / clients
    return found


def measured(parts: list[tuple[jax.Array, float]], total: jax.Array) -> dict[str, float]:
    """Bits, entries and captured share of one message, made of flat arrays and their densities."""
    bits = entries = captured = 0.0
    for values, density in parts:
        compressor = compress.sparse_binary(density)
        payload, _ = compressor.compress([values], compressor.init([values]))
        bits += int(payload[0].payload_bits())
        entries += int(payload[0].count)
        captured += float(payload[0].count * payload[0].mean ** 2)
    return {"bits": bits, "entries": entries, "captured": captured / float(jnp.sum(total**2))}
