"""Is a selection a sparsifying function? A search for the vector on which it keeps too little."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# How often the adversary answers a selection before it gives up on a starting vector.
_ROUNDS = 4


class Verdict(NamedTuple):
    """The worst vector that was found.

    Attributes:
      margin: cosine - bound, the smallest over all vectors tried; negative: the property is
        violated.
      cosine: cos angle(S(v), v) at the witness; 0 where S(v) is all zero.
      bound: sqrt(k / n).
      witness: v, float32 of the shape asked for.
      selected: S(v), same shape.
      tried: number of vectors tried.
    """

    margin: float
    cosine: float
    bound: float
    witness: np.ndarray
    selected: np.ndarray
    tried: int

    @property
    def holds(self) -> bool:
        """Whether no vector was found that violates the property beyond float32 rounding."""
        return self.margin >= -1e-5


def cosine(selected: np.ndarray, vector: np.ndarray) -> float:
    """Cosine of the angle between S(v) and v, in float64.

        cos = <S(v), v> / (|S(v)| |v|)

    Args:
      selected: S(v), any shape.
      vector: v, same shape, not all zero.

    Returns:
      A float in [-1, 1]; 0 where S(v) is all zero, which is as bad as a right angle.

    Example:
      >>> import numpy as np
      >>> cosine(np.array([0.0, 4.0]), np.array([3.0, 4.0]))
      0.8
    """
    s, v = np.asarray(selected, np.float64), np.asarray(vector, np.float64)
    length = math.sqrt(np.sum(s * s)) * math.sqrt(np.sum(v * v))
    return float(np.sum(s * v)) / length if length else 0.0


def _starts(shape: tuple[int, ...], trials: int, key: jax.Array) -> Iterator[np.ndarray]:
    """Vectors that tell selections apart: ties, spikes, slopes, signs, heavy tails, plain noise."""
    entries = math.prod(shape)
    places = np.arange(entries)
    yield np.ones(shape)
    yield np.where(places % 2, -1.0, 1.0).reshape(shape)
    yield (1.0 + places).reshape(shape)
    yield (entries - places).astype(float).reshape(shape)
    yield (0.5 ** np.minimum(places, 60)).reshape(shape)
    yield -(0.5 ** np.minimum(places[::-1], 60)).reshape(shape)
    for place in sorted({0, entries // 2, entries - 1}):
        yield np.eye(1, entries, place).reshape(shape)
    draws = (jax.random.normal, jax.random.cauchy, jax.random.rademacher, jax.random.uniform)
    for trial in range(trials):
        draw = draws[trial % len(draws)]
        yield np.asarray(draw(jax.random.fold_in(key, trial), shape), np.float64)


def _answers(vector: np.ndarray, selected: np.ndarray) -> Iterator[np.ndarray]:
    """What an adversary shows next to a selection that has just chosen."""
    kept = selected != 0
    # Shrink all that was kept to the smallest of it: the tightest vector for an exact top-k, and a
    # selection that does not look keeps the same entries again.
    if kept.any():
        yield np.where(kept, np.abs(vector[kept]).min(), vector)
    if vector.ndim < 2:
        return
    # Columns: spread the sum of a kept one evenly over its rows, and gather each dropped one in its
    # first row, nearly as large. Sums of magnitudes stay almost equal, sums of squares move from
    # the kept columns to the dropped ones.
    rows = vector.reshape(-1, vector.shape[-1])
    sums = np.abs(rows).sum(axis=0)
    chosen = kept.reshape(rows.shape).any(axis=0)
    if chosen.any() and not chosen.all():
        level = sums[chosen].min()
        answer = np.zeros_like(rows)
        answer[:, chosen] = level / rows.shape[0]
        answer[0, ~chosen] = 0.975 * level
        yield answer.reshape(vector.shape)


def check_sparsifying(
    select: Callable[[jax.Array], jax.Array],
    shape: tuple[int, ...],
    kept: int,
    *,
    key: jax.Array,
    trials: int = 40,
    vectors: Iterable[np.ndarray] = (),
) -> Verdict:
    """Searches for a vector on which a selection is no sparsifying function.

        S_k is one if  cos angle(S_k(v), v) >= sqrt(k / n)  for all v

    Tried are the vectors given, a fixed list of awkward ones, random ones, and from each of these
    an adversary that looks at what was selected and changes the vector against it. A violation that
    is found is proof; that none is found is not. Exact top-k and unified selection by l2 pass;
    random-k and unified selection by l1 do not.

    Args:
      select: v -> S(v), same shape, zero where nothing is kept; called some hundred times, so jit
        it. For a backward rule without memory it is
        `jax.jit(lambda u: rule.select(u, None).to_dense(u.shape[1]))`.
      shape: of v; (N,), or (R, O) for a selection over a batch of rows.
      kept: k, entries that S keeps of all n entries of v (for columns shared by R rows: R times the
        columns).
      key: JAX key for the random vectors.
      trials: number of random vectors.
      vectors: further vectors to try, each of `shape`.

    Returns:
      The worst vector found and its margin.

    Raises:
      ValueError: not 1 <= kept <= n, or `select` changes the shape.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), section 3
      (sparsifying function).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> first = lambda v: v.at[1:].set(0)                                     # does not look at v
      >>> verdict = check_sparsifying(first, (4,), 1, key=jax.random.key(0), trials=4)
      >>> verdict.holds, verdict.cosine, verdict.bound
      (False, 0.0, 0.5)
    """
    entries = math.prod(shape)
    if not 1 <= kept <= entries:
        raise ValueError(f"kept={kept}: must lie in 1..{entries}, the entries of {shape}")
    bound = math.sqrt(kept / entries)
    worst: Verdict | None = None
    tried = 0
    for start in (*vectors, *_starts(shape, trials, key)):
        pending = [np.asarray(start)]
        for _ in range(_ROUNDS):
            if not pending:
                break
            met = []
            for candidate in pending:
                vector = np.asarray(candidate, np.float32)
                if not np.any(vector):
                    continue
                selected = np.asarray(select(jnp.asarray(vector)))
                if vector.shape != shape or selected.shape != shape:
                    raise ValueError(
                        f"shape={shape}: met a vector of {vector.shape} and a selection of {selected.shape}; "
                        "they must agree, so give back zeros where nothing is kept"
                    )
                tried += 1
                value = cosine(selected, vector)
                verdict = Verdict(value - bound, value, bound, vector, selected, tried)
                worst = verdict if worst is None or verdict.margin < worst.margin else worst
                met.append(verdict)
            if not met:
                break
            # The adversary follows the line on which least was kept.
            best = min(met, key=lambda verdict: verdict.margin)
            pending = list(_answers(best.witness, best.selected))
    assert worst is not None  # the fixed list is never empty
    return worst._replace(tried=tried)
