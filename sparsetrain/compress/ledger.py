"""What has been sent so far, exactly: payload bits, bytes on the wire, and what dense exchange would have sent."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import pretty, tree
from sparsetrain.payload import BitCount, is_payload, total

# Magic, version, flags, length and checksum around the records of one message.
FRAME_BYTES = 18


class Ledger(NamedTuple):
    """Exact totals of one worker's messages, and the latest one."""

    payload_bits: BitCount  # as the papers count: positions, values, means
    wire_bytes: BitCount  # whole messages, with headers, padding and frame
    moved_bytes: BitCount  # what left this worker in the collectives, which carry fixed shapes
    dense_bits: BitCount  # the same updates uncompressed, every optimizer step
    last_payload_bits: BitCount
    last_wire_bytes: BitCount

    def _facts(self) -> dict[str, Any]:
        def number(count: Any) -> Any:
            seen = isinstance(count, BitCount) and pretty.concrete(count.low) is not None
            return int(count) if seen and not count.low.ndim else count

        return {name: number(count) for name, count in self._asdict().items()}

    def __repr__(self) -> str:
        return pretty.line(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return pretty.scope(self, path, subtree_renderer)

    @staticmethod
    def across_workers() -> dict[str, str]:
        """Who leaves hands on what he has booked: totals stay exact."""
        return dict.fromkeys(Ledger._fields, "sum")


def empty() -> Ledger:
    """Nothing sent yet."""
    return Ledger(*(BitCount.of(0) for _ in Ledger._fields))


def dense_bits(params: Any) -> int:
    """Bits of an uncompressed update of these parameters, in their own dtypes."""
    return sum(8 * leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(params))


def with_step(ledger: Ledger, params: Any) -> Ledger:
    """One more optimizer step that a dense exchange would have sent; nothing is sent yet."""
    nothing = BitCount.of(0)
    return ledger._replace(
        dense_bits=ledger.dense_bits.plus(BitCount.of(dense_bits(params))),
        last_payload_bits=nothing,
        last_wire_bytes=nothing,
    )


def with_message(
    ledger: Ledger,
    payloads: Any,
    speaks: jax.Array,
    moved: int | BitCount = 0,
    sent: BitCount | None = None,
) -> Ledger:
    """The payloads of one message added; nothing but what moved where the worker did not speak.

    `sent` has the message's bytes as they were counted; None for what the payloads say of themselves.
    """
    each = jax.tree.leaves(payloads, is_leaf=is_payload)
    bits = total([payload.payload_bits() for payload in each]).if_true(speaks)
    if sent is None:
        frame = BitCount.of(FRAME_BYTES)
        sent = total([frame, *(payload.wire_bytes() for payload in each)])
    wire = sent.if_true(speaks)
    moved = moved if isinstance(moved, BitCount) else BitCount.of(moved)
    return ledger._replace(
        payload_bits=ledger.payload_bits.plus(bits),
        wire_bytes=ledger.wire_bytes.plus(wire),
        moved_bytes=ledger.moved_bytes.plus(moved),
        last_payload_bits=bits,
        last_wire_bytes=wire,
    )


def compression_ratio(ledger: Ledger) -> jax.Array:
    """dense bits / payload bits, over everything so far; infinite while nothing has been sent.

    Returns:
      float32 scalar.
    """
    sent = ledger.payload_bits.to_float()
    return jnp.where(sent > 0, ledger.dense_bits.to_float() / jnp.maximum(sent, 1), jnp.inf)


def find_ledgers(state: Any) -> list[Ledger]:
    """Every ledger inside an optimizer's state, in its order.

    Example:
      >>> import optax
      >>> [int(each.payload_bits) for each in find_ledgers((optax.EmptyState(), empty()))]
      [0]
    """
    return tree.nodes(Ledger, state)


def report(state: Any) -> dict[str, float]:
    """Metrics of all ledgers inside an optimizer's state, on the host.

    Args:
      state: of any optimizer that contains `exchange` or `local_steps`. A leading worker axis (vmap)
        is summed over.

    Returns:
      "bits_sent", "wire_bytes", "moved_bytes" and "dense_bits" in total (exact Python integers), "bits_this_step",
      and "compression_ratio" = dense bits / bits sent; empty where there is no ledger.

    Example:
      >>> report(())
      {}
    """
    ledgers = find_ledgers(state)
    if not ledgers:
        return {}

    def whole(count: BitCount) -> int:
        high, low = np.asarray(count.high), np.asarray(count.low)
        return (int(high.astype(object).sum()) << 32) + int(low.astype(object).sum())

    sent = sum(whole(each.payload_bits) for each in ledgers)
    dense = sum(whole(each.dense_bits) for each in ledgers)
    return {
        "bits_sent": sent,
        "wire_bytes": sum(whole(each.wire_bytes) for each in ledgers),
        "moved_bytes": sum(whole(each.moved_bytes) for each in ledgers),
        "dense_bits": dense,
        "bits_this_step": sum(whole(each.last_payload_bits) for each in ledgers),
        "compression_ratio": dense / sent if sent else float("inf"),
    }
