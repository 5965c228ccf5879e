"""How DLS moves entries between layers: from the lowest threshold to the highest, halfway, never past the crossing."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import selection, varying
from sparsetrain.selection.layer_ranks import Ranked, at_common_cut, ranked
from sparsetrain.selection.layers import Layers, counts

PAIRINGS = ("extreme", "sorted")
PROBES = 5  # thresholds that one pass of counting takes


class Pairs(NamedTuple):
    """Layers that exchange entries in one step; each layer is in one pair at the most.

    Attributes:
      giver: [P] int32, layers that give entries away.
      receiver: [P] int32.
      moves: [P] bool, whether the pair may exchange at all.
    """

    giver: jax.Array
    receiver: jax.Array
    moves: jax.Array

    def members(self, layers: int) -> jax.Array:
        """[layers] bool, whether a layer is in a pair that moves."""
        ends = jnp.concatenate([self.giver, self.receiver])
        ends = jnp.where(jnp.concatenate([self.moves, self.moves]), ends, layers)
        return jnp.zeros((layers,), bool).at[ends].set(True, mode="drop")


def thresholds_of(k: jax.Array, at: Ranked) -> jax.Array:
    """th_l: pattern of the k_l-th largest; of the largest where k_l = 0."""
    return jnp.where(k > 0, at.least_in, at.most_out)


def extreme_pair(k: jax.Array, sizes: jax.Array, at: Ranked, k_min: int) -> Pairs:
    """The layer with the smallest selected entry, and the one with the largest unselected entry."""
    top = jnp.iinfo(at.least_in.dtype).max
    giver = jnp.argmin(jnp.where(k > k_min, at.least_in, top))
    receiver = jnp.argmax(jnp.where(k < sizes, at.most_out, -1))
    may = (k[giver] > k_min) & (k[receiver] < sizes[receiver])
    moves = may & (at.most_out[receiver] > at.least_in[giver])
    return Pairs(giver[None], receiver[None], moves[None])


def sorted_pairs(k: jax.Array, sizes: jax.Array, at: Ranked, k_min: int) -> Pairs:
    """Lowest threshold with highest, second lowest with second highest, and so on."""
    order = jnp.argsort(thresholds_of(k, at), stable=True)
    half = k.shape[0] // 2
    giver, receiver = order[:half], order[::-1][:half]
    may = (k[giver] > k_min) & (k[receiver] < sizes[receiver])
    return Pairs(giver, receiver, may & (at.most_out[receiver] > at.least_in[giver]))


def one_step(
    layers: Layers, k: jax.Array, at: Ranked, pairing: str, k_min: int
) -> tuple[jax.Array, Pairs]:
    """ONESTEPADJUSTMENT: moves entries from givers to receivers.

    Args:
      layers: the leaves.
      k: [L] int32, entries of each layer.
      at: `ranked(layers, k)`.
      pairing: "extreme" or "sorted".
      k_min: least entries of a layer.

    Returns:
      k: [L] int32 with the same sum.
      pairs: those that were looked at; none moves once the stopping test holds.
    """
    sizes = layers.sizes
    extreme = extreme_pair(k, sizes, at, k_min)
    if pairing == "extreme" or k.shape[0] < 2:
        return _exchange(layers, k, at, extreme, sizes, k_min), extreme
    pairs = sorted_pairs(k, sizes, at, k_min)
    # Where no sorted pair moves, the extreme one does; it takes the first place.
    alone = Pairs(
        pairs.giver.at[0].set(extreme.giver[0]),
        pairs.receiver.at[0].set(extreme.receiver[0]),
        jnp.zeros_like(pairs.moves).at[0].set(extreme.moves[0]),
    )
    any_moves = jnp.any(pairs.moves)
    chosen = jax.tree.map(lambda a, b: jnp.where(any_moves, a, b), pairs, alone)
    return _exchange(layers, k, at, chosen, sizes, k_min), chosen


def _exchange(
    layers: Layers,
    k: jax.Array,
    at: Ranked,
    pairs: Pairs,
    sizes: jax.Array,
    k_min: int,
) -> jax.Array:
    giver, receiver = pairs.giver, pairs.receiver
    low = at.least_in[giver]
    high = thresholds_of(k, at)[receiver]
    # Halves first: the sum might overflow.
    middle = selection.magnitude_patterns(
        0.5 * selection.magnitude_of(low) + 0.5 * selection.magnitude_of(high)
    )

    def counted(of_giver: jax.Array, of_receiver: jax.Array) -> tuple[jax.Array, jax.Array]:
        """#{giver >= threshold} and #{receiver >= threshold}, thresholds [P, 5] of each pair."""
        probes = jnp.zeros((k.shape[0], PROBES), of_giver.dtype)
        # A pair that does not move may name a layer of one that does: it writes nothing.
        at_giver = jnp.where(pairs.moves, giver, k.shape[0])
        at_receiver = jnp.where(pairs.moves, receiver, k.shape[0])
        probes = probes.at[at_giver].set(of_giver, mode="drop")
        probes = probes.at[at_receiver].set(of_receiver, mode="drop")
        found = counts(layers, probes, pairs.members(k.shape[0]))
        return found[giver], found[receiver]

    def selected_below(reached: jax.Array) -> jax.Array:
        return k[giver] - jnp.minimum(k[giver], reached)

    def unselected_from(reached: jax.Array) -> jax.Array:
        return jnp.maximum(0, reached - k[receiver])

    three = jnp.stack([low, high, middle, middle + 1, middle], axis=1)
    of_giver, of_receiver = counted(three, three)
    given = selected_below(of_giver[:, 1])
    taken = unselected_from(of_receiver[:, 0])
    below = selected_below(of_giver[:, 2])
    beyond = unselected_from(of_receiver[:, 2])
    wished = jnp.where(given < taken, below, beyond)
    room = jnp.minimum(k[giver] - k_min, sizes[receiver] - k[receiver])
    wished = jnp.clip(wished, 1, jnp.maximum(room, 1))
    # At the middle both sides have that many entries to exchange: then no swap is a bad one.
    is_safe = jnp.minimum(beyond, selected_below(of_giver[:, 3])) >= wished

    def crossing() -> jax.Array:
        """Most swaps that each bring in an entry no smaller than the one they drop."""

        def goes_on(bounds: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jnp.any(bounds[1] - bounds[0] > 1)

        def narrow(bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            lower, upper = bounds
            share = jnp.arange(1, PROBES + 1, dtype=lower.dtype)
            part, rest = (n[:, None] for n in divmod(upper - lower, PROBES + 1))
            probes = lower[:, None] + part * share[None] + rest * share[None] // (PROBES + 1)
            probes = jnp.maximum(probes, lower[:, None] + 1)
            holds = _many(probes)
            lower = jnp.max(jnp.where(holds, probes, lower[:, None]), axis=1)
            upper = jnp.min(jnp.where(holds, upper[:, None], probes), axis=1)
            return lower, jnp.maximum(upper, lower + 1)

        def _many(probes: jax.Array) -> jax.Array:
            reach_giver, reach_receiver = counted(probes + 1, probes)
            dropped = k[giver][:, None] - jnp.minimum(k[giver][:, None], reach_giver)
            return jnp.maximum(0, reach_receiver - k[receiver][:, None]) >= dropped

        # Below every entry of both the receiver has more to offer; above its largest, nothing.
        start = jnp.zeros_like(low), jnp.maximum(at.most_out[receiver], low) + 2
        last, after = varying.while_loop(goes_on, narrow, start)
        both = jnp.stack([last, after, last, last, last], axis=1)
        reach_giver, reach_receiver = counted(both + 1, both)
        dropped = k[giver][:, None] - jnp.minimum(k[giver][:, None], reach_giver)
        offered = jnp.maximum(0, reach_receiver - k[receiver][:, None])
        return jnp.max(jnp.minimum(dropped, offered)[:, :2], axis=1)

    needed = jnp.any(pairs.moves & ~is_safe)
    most = varying.cond(needed, crossing, lambda: wished)
    amount = jnp.where(is_safe, wished, jnp.minimum(wished, jnp.maximum(most, 1)))
    amount = jnp.where(pairs.moves, amount, 0)
    return k.at[giver].add(-amount).at[receiver].add(amount)


def adjusted(
    layers: Layers,
    k: jax.Array,
    at: Ranked,
    steps: int | None,
    pairing: str,
    k_min: int,
) -> jax.Array:
    """Counts after so many steps, or after all (`steps=None`: OPTIMALADJUSTMENT).

    Args:
      layers: the leaves.
      k: [L] int32.
      at: `ranked(layers, k)`.
      steps: s of DLS(s); None repeats until the stopping test holds, and then gives entries tied at
        the common threshold to the earlier layers, as `global_top_k` does.
      pairing: "extreme" or "sorted".
      k_min: least entries of a layer.

    Returns:
      [L] int32 with the same sum.
    """
    k, pairs = one_step(layers, k, at, pairing, k_min)
    if steps == 1:
        return k

    def goes_on(state: Any) -> jax.Array:
        number, _, _, pairs = state
        is_due = jnp.any(pairs.moves)
        return is_due if steps is None else is_due & (number < steps)

    def again(state: Any) -> Any:
        number, k, at, pairs = state
        # Only the layers that moved are looked at anew.
        is_new = pairs.members(k.shape[0])
        fresh = ranked(layers, k, thresholds_of(k, at), is_new)
        at = jax.tree.map(lambda new, old: jnp.where(is_new, new, old), fresh, at)
        k, pairs = one_step(layers, k, at, pairing, k_min)
        return number + 1, k, at, pairs

    _, k, at, _ = varying.while_loop(goes_on, again, (jnp.int32(1), k, at, pairs))
    return _ties_by_index(layers, k, at) if steps is None and k_min == 0 else k


def _ties_by_index(layers: Layers, k: jax.Array, at: Ranked) -> jax.Array:
    """Counts of the global top-k, ties to the earlier layer, once the stopping test holds.

    Ties at zero stay where they are: it makes no difference what zeros are sent, but a round of
    nothing but zeros would leave all entries to the first layer.
    """
    lowest = jnp.min(at.least_in)  # The common threshold; layers without entries are above it.
    shared, _ = at_common_cut(layers, lowest, jnp.sum(k, dtype=jnp.int32))
    return jnp.where(lowest > 0, shared, k)
