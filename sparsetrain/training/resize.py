"""Another number of workers goes on: what the old ones held is dealt to the new ones.

        r'_v = sum_w a_vw r_w,    a_vw = W' |[v/W', (v+1)/W') ∩ [w/W, (w+1)/W)|
        hence  sum_v r'_v / W' = sum_w r_w / W

Workers lie side by side on a line of length 1, old ones above and new ones below, and each takes of what lies
above it: from 4 to 2 the mean of a pair, from 2 to 4 what one had goes to two. What is conserved is what
parameters will still receive. An exchange takes the mean over workers, so that of an entry of r_w they receive
r_w / W, and it is these shares whose sum must stay. To conserve the bare sum of r_w would apply everything that
was held back W / W' times.

A state class says by a method `across_workers` what becomes of its fields: "mean" as above, for what was held
back and for moments, which are estimates that a mean does no harm; "sum" for what was counted. What nobody has
said anything about must be alike on all workers, and one takes it over. Where it is not, the run is refused.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain import tree
from sparsetrain.compress.local_steps import LocalStepsState
from sparsetrain.training.state import TrainState

MEAN, SUM = "mean", "sum"


def resized(state: TrainState, before: int, after: int) -> TrainState:
    """What other workers go on with.

    Between two exchanges too: the ways from the anchor, which local steps have gone, are dealt as residuals are.

    Args:
      state: of `before` workers, in host memory; `variables` and `opt_state` with a leading axis [before], or
        without one for a single worker.
      before: W.
      after: W'.

    Returns:
      The same of `after` workers, NumPy arrays. Step and key stay.

    Raises:
      ValueError: a leaf differs between workers and its class does not say what becomes of it.

    Example:
      >>> from sparsetrain.compress.memory import ResidualState
      >>> kept = ResidualState(np.float32([[4, 0], [2, 0], [0, 8], [0, 0]]))
      >>> params = {"params": np.ones((4, 2), np.float32)}
      >>> state = resized(TrainState(np.int32(7), params, kept, jax.random.key(0)), 4, 2)
      >>> state.opt_state.residual.tolist(), state.variables["params"].shape
      ([[3.0, 0.0], [0.0, 4.0]], (2, 2))
    """
    variables, opt_state = state.variables, state.opt_state
    if before == 1:
        variables, opt_state = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state[1:3])
    deal = _Deal(before, after)
    # Collections besides are statistics of batches and memories of rules, of each worker its own.
    hows: dict[str, str | None] = dict.fromkeys(variables, MEAN)
    # Of those that exchange every gradient, parameters are alike or something is wrong.
    hows["params"] = MEAN if tree.nodes(LocalStepsState, opt_state) else None
    found = (
        {name: deal.of(part, hows[name], f"variables/{name}") for name, part in variables.items()},
        deal.of(opt_state, None, "opt_state"),
    )
    if after == 1:
        found = jax.tree.map(lambda leaf: leaf[0], found)
    return state._replace(variables=found[0], opt_state=found[1])


def weights(before: int, after: int) -> np.ndarray:
    """a of the equation above: every row sums to 1, every column to W' / W.

    Args:
      before: W.
      after: W'.

    Returns:
      float64 [W', W].

    Example:
      >>> weights(4, 2).tolist()
      [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
      >>> weights(2, 3).tolist()
      [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    new, old = np.arange(after)[:, None], np.arange(before)
    # In integers, as parts of 1 / (W W').
    begin, end = (
        np.maximum(new * before, old * after),
        np.minimum((new + 1) * before, (old + 1) * after),
    )
    return np.maximum(end - begin, 0) / before


class _Deal:
    """Rows of old workers to rows of new ones."""

    def __init__(self, before: int, after: int) -> None:
        self.before, self.after = before, after
        self.weights = weights(before, after)

    def of(self, node: Any, how: str | None, path: str) -> Any:
        """A part of a state, and its path for those who read errors."""
        if hasattr(node, "across_workers"):
            hows: Mapping[str, str] = node.across_workers()
            fields = node._asdict().items()
            return type(node)(
                *(self.of(part, hows.get(name), f"{path}/{name}") for name, part in fields)
            )

        def is_whole(part: Any) -> bool:
            # A count in several words is added up by itself.
            return hasattr(part, "across_workers") or (how == SUM and hasattr(part, "plus"))

        parts, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=is_whole)
        return jax.tree.unflatten(
            structure,
            [
                self._part(part, how, "/".join([path, *filter(None, [tree.join(at)])]))
                for at, part in parts
            ],
        )

    def _part(self, part: Any, how: str | None, path: str) -> Any:
        if hasattr(part, "across_workers"):
            return self.of(part, how, path)
        if how == SUM:
            return self._summed(part)
        part = np.asarray(part)
        if self._alike(part):
            return np.repeat(part[:1], self.after, axis=0)
        if how == MEAN and jnp.issubdtype(part.dtype, jnp.floating):
            return self._mean(part)
        raise ValueError(
            f"{path} differs between the {self.before} workers of the checkpoint, and nothing says what becomes "
            f"of it with {self.after}: start with workers={self.before} again, or anew in another workdir"
        )

    def _alike(self, rows: np.ndarray) -> bool:
        return bool(((rows == rows[:1]) | ((rows != rows) & (rows[:1] != rows[:1]))).all())

    def _mean(self, rows: np.ndarray) -> np.ndarray:
        # Not a product of matrices: 0 * NaN would carry one worker's NaN to all.
        dealt = [
            sum(row[w] * rows[w].astype(np.float64) for w in np.flatnonzero(row))
            for row in self.weights
        ]
        return np.stack(dealt).astype(rows.dtype)

    def _summed(self, counts: Any) -> Any:
        """Each old worker's count goes to one new worker, so that no count is split or lost."""

        def row(w: int) -> Any:
            return jax.tree.map(lambda leaf: leaf[w : w + 1], counts)

        found = [jax.tree.map(np.zeros_like, row(0))] * self.after
        for w in range(self.before):
            heir = w * self.after // self.before
            there, own = found[heir], row(w)
            found[heir] = there.plus(own) if hasattr(own, "plus") else there + own
        return jax.tree.map(lambda *rows: np.concatenate(rows), *found)
