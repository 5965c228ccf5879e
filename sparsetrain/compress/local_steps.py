"""Several local optimizer steps between two exchanges: temporal sparsity, FedAvg, DiLoCo."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparsetrain import pretty, tree, varying
from sparsetrain.compress import ledger
from sparsetrain.compress.compressor import Compressor, accumulated, check_floating
from sparsetrain.compress.ledger import Ledger
from sparsetrain.compress.memory import Memory, residual
from sparsetrain.compress.momentum import mask_momentum
from sparsetrain.compress.transform import Round, check_parts, one_round


class LocalStepsState(NamedTuple):
    """State of `local_steps`."""

    step: jax.Array  # int32 scalar, local steps so far
    anchor: Any  # the parameters that all workers agreed upon at the last exchange
    inner: Any
    outer: Any
    compressor: Any
    memory: Any
    ledger: Ledger
    nonfinite: jax.Array  # int32 scalar: exchanges in which this worker sent nothing

    def __repr__(self) -> str:
        return pretty.state(self)

    @staticmethod
    def across_workers() -> dict[str, str]:
        """Moments are estimates; the anchor and what lies behind the exchange are alike."""
        return {"inner": "mean", "nonfinite": "sum"}

    @staticmethod
    def survives_restart() -> tuple[str, ...]:
        """Around masks that change: both optimizers begin anew, what workers agreed upon and owe one another stays."""
        return ("step", "anchor", "compressor", "memory", "ledger", "nonfinite")


@dataclasses.dataclass(frozen=True)
class Halves:
    """The parts of `local_steps`, around any way in which workers may hear of one another.

    `walk`, then at every n-th step `one_round` of `drift`, and `land`. Who exchanges otherwise, such as
    `runtime.messages`, puts the halves of `one_round` between them.
    """

    inner: optax.GradientTransformationExtraArgs
    every: int
    compressor: Compressor
    outer: optax.GradientTransformation
    memory: Memory
    momentum_masking: str | None

    def init(self, params: Any) -> LocalStepsState:
        """State of one worker before its first step."""
        check_floating(params)
        return LocalStepsState(
            step=jnp.zeros((), jnp.int32),
            # A copy, so that parameters and state can both be donated.
            anchor=jax.tree.map(jnp.copy, params),
            inner=self.inner.init(params),
            outer=self.outer.init(params),
            compressor=self.compressor.init(params),
            memory=self.memory.init(params),
            ledger=ledger.empty(),
            nonfinite=jnp.zeros((), jnp.int32),
        )

    def walk(
        self, updates: Any, state: LocalStepsState, params: Any, **extra_args: Any
    ) -> tuple[Any, LocalStepsState]:
        """One local step: (moves, state)."""
        moves, inner = self.inner.update(updates, state.inner, params, **extra_args)
        book = ledger.with_step(state.ledger, params)
        return moves, state._replace(
            step=optax.safe_increment(state.step), inner=inner, ledger=book
        )

    def drift(self, params: Any, moves: Any, state: LocalStepsState) -> Any:
        """How far this worker is from the anchor once it has moved."""
        target = accumulated(optax.apply_updates(params, moves))
        return jax.tree.map(jnp.subtract, target, accumulated(state.anchor))

    def land(self, params: Any, state: LocalStepsState, done: Round) -> tuple[Any, LocalStepsState]:
        """The way from the parameters before the last move to the new anchor: (updates, state)."""
        pseudo_gradient = jax.tree.map(
            lambda mean, p: jnp.negative(mean).astype(p.dtype), done.mean, params
        )
        change, outer = self.outer.update(pseudo_gradient, state.outer, state.anchor)
        anchor = optax.apply_updates(state.anchor, change)
        # A moment that is not finite would silence this worker for ever.
        inner = jax.tree.map(lambda leaf: _mended(leaf, done.speaks), state.inner)
        if self.momentum_masking is not None:
            sent = jax.tree.map(lambda accepted: accepted != 0, done.accepted)
            inner = mask_momentum(inner, params, sent, self.momentum_masking)
        new = LocalStepsState(
            step=state.step,
            anchor=anchor,
            inner=inner,
            outer=outer,
            compressor=done.compressor,
            memory=done.memory,
            ledger=done.ledger,
            nonfinite=done.nonfinite,
        )
        return jax.tree.map(jnp.subtract, anchor, params), new


def _mended(leaf: Any, speaks: jax.Array) -> Any:
    """Zeros where something is not finite, unless the worker speaks."""
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return leaf
    return jnp.where(speaks | jnp.isfinite(leaf), leaf, jnp.zeros_like(leaf))


class LocalSteps(optax.GradientTransformationExtraArgs):
    """What `local_steps` returns: a transformation that can be taken apart."""

    halves: Halves


def local_steps(
    inner: optax.GradientTransformation,
    every: int,
    compressor: Compressor,
    outer: optax.GradientTransformation | None = None,
    *,
    memory: Memory | None = None,
    momentum_masking: str | None = None,
    axis_name: Any = None,
) -> LocalSteps:
    """Optimizes locally and exchanges the compressed difference every so many steps.

        each step:            W <- W + inner(g)
        every n-th step:      dW = W - A + R,   s = C(dW),   R <- dW - s,
                              A <- A + outer(-mean_workers(s)),   W <- A

    Args:
      inner: the local optimizer; its state stays with the worker.
      every: n, local steps between two exchanges, at least 1.
      compressor: what is sent of the difference to the anchor A.
      outer: optimizer of the anchor, fed the negative mean difference as its gradient; None is
        `optax.sgd(1.0)`, plain averaging. Any optimizer gives FedOpt, `optax.sgd(0.7, momentum=0.9,
        nesterov=True)` gives DiLoCo. It sees what was sent, not what the residual holds back: an entry
        that waits does not move the outer momentum until it travels, and then the momentum goes on with it
        for some rounds, so that delay and momentum add up.
      memory: what is remembered of the difference; `residual()` unless told otherwise.
      momentum_masking: None leaves the inner optimizer's moments alone; "first" or "all" zeroes
        them where something was just sent, see `mask_momentum`.
      axis_name: the axis of `vmap` or `shard_map` over which workers combine; None for one worker.

    Returns:
      A transformation that needs `params` in `update`. The anchor is bit-identical on all workers.
      The parameters reach it by `params + (anchor - params)`, which floating point may leave one
      unit in the last place (of the larger of the two) away; `sync(params, state)` returns the
      anchor itself. A worker whose difference is not finite sends nothing, as in `exchange`, and
      what is not finite in its inner state is set to zero.

    Raises:
      ValueError: every below 1, or `update` without parameters.
      TypeError: an argument that is no compressor or no memory; at `init`, a leaf that is not
        floating.

    Reference: Sattler et al., Sparse Binary Compression (arXiv 1805.08768); McMahan et al., FedAvg
    (arXiv 1602.05629); Douillard et al., DiLoCo (arXiv 2311.08105).

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from sparsetrain import compress
      >>> tx = compress.local_steps(optax.sgd(1.0), every=2, compressor=compress.top_k(density=0.5))
      >>> params = jnp.zeros(2)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([1.0, 0.25]), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> params.tolist(), state.memory.residual.tolist()
      ([-2.0, 0.0], [0.0, -0.5])
    """
    if every < 1:
        raise ValueError(
            f"every={every}: must be at least 1, the number of steps between exchanges"
        )
    if momentum_masking not in (None, "first", "all"):
        raise ValueError(f"momentum_masking={momentum_masking!r}: choose None, 'first' or 'all'")
    memory = residual() if memory is None else memory
    check_parts(compressor, memory)
    halves = Halves(
        optax.with_extra_args_support(inner),
        every,
        compressor,
        optax.sgd(1.0) if outer is None else outer,
        memory,
        momentum_masking,
    )

    def update_fn(
        updates: Any, state: LocalStepsState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, LocalStepsState]:
        if params is None:
            raise ValueError(
                "local_steps: call update(grads, state, params), the anchor is compared to them"
            )
        moves, state = halves.walk(updates, state, params, **extra_args)

        def stay(state: LocalStepsState) -> tuple[Any, LocalStepsState]:
            return jax.tree.map(lambda move, p: move.astype(p.dtype), moves, params), state

        def communicate(state: LocalStepsState) -> tuple[Any, LocalStepsState]:
            drift = halves.drift(params, moves, state)
            return halves.land(
                params, state, one_round(compressor, memory, drift, state, axis_name)
            )

        if every == 1:
            return communicate(state)
        is_boundary = state.step % every == 0
        if axis_name is not None:
            # The same on all workers, and known to be: else vmap turns the branch into a select and
            # every step pays for selection and exchange.
            is_boundary = lax.pmax(is_boundary.astype(jnp.int32), axis_name) > 0
        return varying.cond(is_boundary, communicate, stay, state)

    both = LocalSteps(halves.init, update_fn)
    both.halves = halves
    return both


def sync(params: Any, state: Any) -> Any:
    """The parameters set to the anchor, which is bit-identical on all workers.

    Meant for right after an exchange; between exchanges it would undo the local steps.

    Args:
      params: of the model.
      state: an optimizer's state with one `local_steps` in it.

    Returns:
      The anchor, in the parameters' dtypes.

    Raises:
      ValueError: no `local_steps`, or several.

    Example:
      >>> import optax
      >>> from sparsetrain import compress
      >>> tx = compress.local_steps(optax.sgd(1.0), 5, compress.top_k(0.5))
      >>> sync(jnp.ones(2), tx.init(jnp.zeros(2))).tolist()
      [0.0, 0.0]
    """
    found = tree.nodes(LocalStepsState, state)
    if len(found) != 1:
        raise ValueError(f"sync: the state holds {len(found)} local_steps; it needs exactly one")
    return jax.tree.map(lambda anchor, p: anchor.astype(p.dtype), found[0].anchor, params)
