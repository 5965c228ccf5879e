"""A dry run: bytes and operations of a training step, before anything is allocated or compiled."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from sparsetrain import tree
from sparsetrain.analysis.flops import FlopCount, Layer, backward_flops, layer_of, total_flops

# What a sparsified model adds to its own collections; taps are row-sparse gradients' way out.
_PARAMS, _MEMORY, _TAPS = "params", "memory", "row_sparse"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a training step needs; `print` it for a table.

    Attributes:
      params: bytes of the parameters.
      optimizer: bytes of the optimizer's state.
      gradients: bytes of the parameters' gradients; for kernels with row-sparse gradients only
        their taps count.
      residuals: bytes that the forward pass keeps for the backward pass, without parameters and
        inputs.
      memory: bytes of the error memories.
      taps: bytes of the taps of row-sparse gradients.
      other: bytes of all other collections.
      batch: bytes of the inputs.
      layers: the layers that were counted.
      forward: floating point operations of their forward products, 2 R O I each.
      backward: floating point operations of their backward pass.
      program: XLA's count for loss and gradient before optimization, or None. It knows all
        operations, but counts a loop's body once and selections (custom calls) not at all.
    """

    params: int
    optimizer: int
    gradients: int
    residuals: int
    memory: int
    taps: int
    other: int
    batch: int
    layers: tuple[Layer, ...]
    forward: int
    backward: FlopCount
    program: float | None

    @property
    def total(self) -> int:
        """Bytes of all parts together: what a step must hold, without XLA's scratch space."""
        return (
            self.params
            + self.optimizer
            + self.gradients
            + self.residuals
            + self.memory
            + self.taps
            + self.other
            + self.batch
        )

    def __str__(self) -> str:
        parts = (
            "params",
            "optimizer",
            "gradients",
            "residuals",
            "memory",
            "taps",
            "other",
            "batch",
        )
        lines = [f"{'memory of a step':<20}{'bytes':>16}"]
        lines += [f"  {name:<18}{getattr(self, name):>16,}" for name in (*parts, "total")]
        if self.layers:
            lines += ["", _HEADER]
            lines += [_row(layer.path, layer, backward_flops(layer)) for layer in self.layers]
            lines += [_row("total", None, self.backward)]
            lines += [f"forward products: {self.forward:.4g} operations"]
        if self.program is not None:
            lines += [f"XLA, loss and gradient before optimization: {self.program:.4g} operations"]
        return "\n".join(lines)


_HEADER = (
    f"{'backward operations':<32}{'kind':>8}{'rows':>8}{'inputs':>8}{'outputs':>8}{'kept':>7}"
    f"{'dense':>11}{'needed':>11}{'executed':>11}{'selection':>11}{'memory':>11}{'dense/all':>10}"
)


def _row(name: str, layer: Layer | None, count: FlopCount) -> str:
    shape = " " * 39
    if layer is not None:
        shape = f"{layer.kind:>8}{layer.rows:>8}{layer.inputs:>8}{layer.outputs:>8}{layer.kept:>7}"
    numbers = "".join(f"{number:>11.3g}" for number in count)
    return f"  {name:<30}{shape}{numbers}{count.reduction:>10.2f}"


def _bytes(leaf: Any) -> int:
    # Typed keys have no NumPy item size of their own; they say it themselves.
    return math.prod(leaf.shape) * int(leaf.dtype.itemsize)


def tree_bytes(values: Any) -> int:
    """Bytes of all arrays of a tree.

    Args:
      values: tree of arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      Their sizes times their item sizes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> tree_bytes({"kernel": jax.ShapeDtypeStruct((3, 4), jnp.bfloat16), "bias": jnp.zeros(4)})
      40
    """
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(values))


def residual_bytes(loss: Callable[..., jax.Array], variables: Any, *batch: Any) -> int:
    """Bytes that a backward pass needs from its forward pass, beyond its arguments.

    What `jax.vjp` keeps is traced and counted once each; parameters, inputs and constants are there
    anyway. Under `jit` XLA may keep less (of tanh, y and 1 - y are counted; it would keep one and
    recompute the other) and needs scratch space in addition.

    Args:
      loss: (variables, *batch) -> scalar.
      variables: what is differentiated; arrays or shapes.
      *batch: inputs; arrays or shapes.

    Returns:
      Bytes.

    Example:
      >>> import jax.numpy as jnp
      >>> residual_bytes(lambda w, x: jnp.sum(jnp.tanh(x * w)), jnp.ones(8), jnp.ones(8)) >= 8 * 4
      True
    """

    def kept(variables: Any, *batch: Any) -> Any:
        return jax.tree.leaves(jax.vjp(lambda v: loss(v, *batch), variables)[1])

    jaxpr = jax.make_jaxpr(kept)(variables, *batch).jaxpr
    known = {id(var) for var in (*jaxpr.invars, *jaxpr.constvars)}
    # Each variable once; a literal has no place in memory and no `count`.
    fresh = {
        id(var): var.aval
        for var in jaxpr.outvars
        if id(var) not in known and not hasattr(var, "val")
    }
    return sum(_bytes(aval) for aval in fresh.values())


def estimate(
    loss: Callable[..., jax.Array],
    variables: Mapping[str, Any],
    *batch: Any,
    tx: Any = None,
    layers: Iterable[Any] = (),
    reads_data: str = "",
) -> Estimate:
    """Memory and operations of a training step, from shapes alone.

    Nothing is allocated, compiled or run, so `variables` may be of any size, such as
    `jax.eval_shape(model.init, key, x)` gives them. (Only the rule of each `layers` record selects
    once from a single row, to see how many entries it keeps.)

    Args:
      loss: (variables, *batch) -> scalar.
      variables: {"params": …} and, for a sparsified model, its other collections; arrays or
        `jax.ShapeDtypeStruct`s.
      *batch: inputs; arrays or shapes.
      tx: the optimizer of `variables` (for a sparsified model `carry_memory(…)`), or None for no
        optimizer.
      layers: records of the layers whose products are counted: `model.layers(key, x)` of a
        sparsified model, or `Layer`s. What runs within `nn.scan` or `nn.RNN` counts for one step of it;
        a run's `summary.json` has all of them.
      reads_data: regular expression on full paths of the layers that read the inputs, for which no
        dx is computed; "" for none.

    Returns:
      An `Estimate`; `print` it.

    Raises:
      ValueError: `variables` without "params", or a `reads_data` that matches no layer.

    Reference: none.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax
      >>> from sparsetrain import backward
      >>> rule = backward.unified_top_k(density=0.25, decay=0.5)
      >>> model = backward.linen.sparsify(nn.Dense(4), {"kernel": rule})
      >>> x, key = jax.ShapeDtypeStruct((8, 3), jnp.float32), jax.random.key(0)
      >>> variables = jax.eval_shape(model.init, key, x)
      >>> dry = estimate(lambda v, x: model.apply(v, x).sum(), variables, x,
      ...                tx=backward.carry_memory(optax.sgd(0.1)), layers=model.layers(key, x))
      >>> dry.params, dry.memory, dry.backward.dense, dry.backward.executed
      (64, 16, 384, 96)
    """
    if _PARAMS not in variables:
        raise ValueError(
            f'variables: has the collections {sorted(variables)} and no "params"; '
            'give what init returns, or {"params": params}'
        )
    records = [layer if isinstance(layer, Layer) else layer_of(layer) for layer in layers]
    if reads_data:
        first = [tree.first_match({reads_data: True}, layer.path) is not None for layer in records]
        if not any(first):
            raise ValueError(
                f"reads_data={reads_data!r}: matched no layer (the whole path must match). "
                f"The layers are: {', '.join(layer.path for layer in records) or 'none'}"
            )
        records = [
            layer._replace(input_gradient=layer.input_gradient and not reads)
            for layer, reads in zip(records, first, strict=True)
        ]
    taps = variables.get(_TAPS, {})
    # A tap stands in a node of its own (values, columns, calls) at its kernel's path.
    tapped = {path.rpartition("/")[0] for path in tree.paths(taps)}
    names, leaves = tree.paths(variables[_PARAMS]), jax.tree.leaves(variables[_PARAMS])
    gradients = sum(
        _bytes(leaf) for name, leaf in zip(names, leaves, strict=True) if name not in tapped
    )
    state = None if tx is None else jax.eval_shape(tx.init, variables)
    rest = {k: v for k, v in variables.items() if k not in (_PARAMS, _MEMORY, _TAPS)}
    return Estimate(
        params=tree_bytes(variables[_PARAMS]),
        optimizer=tree_bytes(state),
        gradients=gradients,
        residuals=residual_bytes(loss, variables, *batch),
        memory=tree_bytes(variables.get(_MEMORY, {})),
        taps=tree_bytes(taps),
        other=tree_bytes(rest),
        batch=tree_bytes(batch),
        layers=tuple(records),
        forward=sum(2 * layer.rows * layer.outputs * layer.inputs for layer in records),
        backward=total_flops(records),
        program=_program_flops(loss, variables, batch),
    )


def _program_flops(loss: Callable[..., jax.Array], variables: Any, batch: Any) -> float | None:
    """XLA's count, where the backend gives one before compiling."""
    cost = jax.jit(jax.value_and_grad(loss)).lower(variables, *batch).cost_analysis()
    if isinstance(cost, list):  # one entry a device in some versions
        cost = cost[0] if cost else None
    flops = (cost or {}).get("flops")
    return None if flops is None or not np.isfinite(flops) or flops < 0 else float(flops)
