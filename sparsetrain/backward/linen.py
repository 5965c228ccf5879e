"""Sparsify an unmodified linen model: rules by parameter path, memories split out of the
parameters.

While the model runs, a layer's memory is a param beside its kernel. So every lifted transformation
(scan, vmap, remat, RNN) carries it as it carries the kernel: stacked where kernels are stacked,
shared where they are shared. `init` and `apply` split it out into a collection of its own and merge
it back; nobody else sees it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from sparsetrain.backward.layers import LayerShape, acting_rule, check_matches, check_rules
from sparsetrain.backward.linen_layer import MEMORY_SUFFIX, TAP_SUFFIXES, Interception
from sparsetrain.backward.memory import MEMORY, PARAMS, TAPS
from sparsetrain.backward.row_sparse.gradient import RowSparse
from sparsetrain.backward.rule import BackwardRule

_LAYOUTS = {"out_in": 0, "in_out": 1}


@dataclasses.dataclass(frozen=True)
class Sparsified:
    """A linen model with sparse backward rules; made by `sparsify`. Used as the model itself would
    be.

    Attributes:
      model: the plain model.
      rules: regular expression on parameter paths -> rule.
      rows: rows that reach a layer per optimizer step, see `sparsify`.
      row_sparse: whether matched 2-D kernels get row-sparse gradients.
      kernel_layout: "out_in" or "in_out", how those kernels are stored.
    """

    model: nn.Module
    rules: Mapping[str, BackwardRule]
    rows: int | Mapping[str, int] | None = None
    row_sparse: bool = False
    kernel_layout: str = "out_in"

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Variables of the model with their memories: {"params": …, "memory": …, the model's own
          collections}.

        Args:
          rngs: a key or a dictionary of keys, as for `nn.Module.init`.
          *args: inputs; their batch size is the one a "slot" memory and a row-sparse gradient get
            room for.
          **kwargs: as for `nn.Module.init`.

        Returns:
          A dictionary of collections. "memory" mirrors the paths of the kernels it belongs to.

        Raises:
          ValueError: a rule matched no layer (the message lists the layers), or does not fit the
            layer it matched.
        """
        return self.init_with_output(rngs, *args, **kwargs)[1]

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Output of the model and its variables; see `init`."""
        run = self._interception(live=True)
        with nn.intercept_methods(run):
            output, variables = self.model.init_with_output(rngs, *args, **kwargs)
        check_matches(self.rules, [shape.path for shape in run.shapes])
        return output, self._split(variables)

    def apply(
        self, variables: Mapping[str, Any], *args: Any, mutable: Any = False, **kwargs: Any
    ) -> Any:
        """Runs the model; its backward pass follows the rules if `variables` has a "memory"
        collection.

        Without one (`{"params": params}`: evaluation, a checkpoint of parameters) this is the plain
        dense model, forward and backward.

        Args:
          variables: what `init` returned, or a part of it with "params".
          *args: inputs.
          mutable: as for `nn.Module.apply`.
          **kwargs: as for `nn.Module.apply`.

        Returns:
          As `nn.Module.apply`.
        """
        run = self._interception(live=MEMORY in variables)
        with nn.intercept_methods(run):
            result = self.model.apply(self._merge(variables), *args, mutable=mutable, **kwargs)
        if mutable is False:
            return result
        output, state = result
        return output, self._split(state) if PARAMS in state else state

    def layers(self, rngs: Any, *args: Any, **kwargs: Any) -> list[LayerShape]:
        """Shapes of every layer that a rule can match, in the order of their calls; nothing is
        computed.

        Args:
          rngs: as for `init`.
          *args: inputs, or `jax.ShapeDtypeStruct`s.
          **kwargs: as for `init`.

        Returns:
          One record a call, with the rule that applies to it (or None).
        """
        run = self._interception(live=True)

        def record(rngs: Any, *args: Any) -> Any:
            with nn.intercept_methods(run):
                return self.model.init(rngs, *args, **kwargs)

        jax.eval_shape(record, rngs, *args)
        return list(dict.fromkeys(run.shapes))

    def to_dense(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as the plain model stores them; only kernels with row-sparse gradients differ.

        Args:
          params: the "params" of `init`'s result.

        Returns:
          Parameters for `self.model.apply({"params": …}, …)`.
        """
        return self._turned(params)

    def from_dense(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of the plain model (a checkpoint, say) as this one stores them; the inverse of `to_dense`."""
        return self._turned(params)

    def _interception(self, live: bool) -> Interception:
        axis = _LAYOUTS[self.kernel_layout] if self.row_sparse else None
        return Interception(self.rules, self.rows, axis, live)

    def _turned(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Swaps the axes of the kernels that are stored as [O, I]; its own inverse."""
        flat = dict(traverse_util.flatten_dict(dict(params)))
        if self.row_sparse and self.kernel_layout == "out_in":
            for path, leaf in flat.items():
                if acting_rule(self.rules, "/".join(path)) is not None and jnp.ndim(leaf) == 2:
                    flat[path] = jnp.swapaxes(leaf, 0, 1)
        return traverse_util.unflatten_dict(flat)

    def _split(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Takes memories and taps out of the parameters."""
        plain, memories, taps = {}, {}, {}
        parts: dict[tuple[str, ...], dict[str, Any]] = {}
        for path, leaf in traverse_util.flatten_dict(dict(variables[PARAMS])).items():
            name = path[-1]
            if name.endswith(MEMORY_SUFFIX):
                memories[(*path[:-1], name.removesuffix(MEMORY_SUFFIX))] = leaf
                continue
            for field, suffix in TAP_SUFFIXES.items():
                if name.endswith(suffix):
                    parts.setdefault((*path[:-1], name.removesuffix(suffix)), {})[field] = leaf
                    break
            else:
                plain[path] = leaf
        for path, fields in parts.items():
            # A stacked kernel (nn.scan, nn.vmap over layers) keeps its dense gradient.
            if jnp.ndim(plain[path]) == 2:
                taps[path] = RowSparse(**fields, axis=_LAYOUTS[self.kernel_layout])
        params = self._turned(traverse_util.unflatten_dict(plain))
        rest = {name: part for name, part in variables.items() if name != PARAMS}
        out = {PARAMS: params, MEMORY: traverse_util.unflatten_dict(memories), **rest}
        return {**out, TAPS: traverse_util.unflatten_dict(taps)} if taps else out

    def _merge(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Puts memories and taps back beside their kernels."""
        flat = traverse_util.flatten_dict(self._turned(variables.get(PARAMS, {})))
        for path, memory in traverse_util.flatten_dict(dict(variables.get(MEMORY, {}))).items():
            flat[(*path[:-1], path[-1] + MEMORY_SUFFIX)] = memory
        for path, tap in traverse_util.flatten_dict(dict(variables.get(TAPS, {}))).items():
            for field, suffix in TAP_SUFFIXES.items():
                flat[(*path[:-1], path[-1] + suffix)] = getattr(tap, field)
        rest = {k: v for k, v in variables.items() if k not in (PARAMS, MEMORY, TAPS)}
        return {PARAMS: traverse_util.unflatten_dict(flat), **rest}


def sparsify(
    model: nn.Module,
    rules: Mapping[str, BackwardRule],
    rows: int | Mapping[str, int] | None = None,
    *,
    row_sparse: bool = False,
    kernel_layout: str = "out_in",
) -> Sparsified:
    """Gives the layers of a linen model sparse backward rules, without touching its code.

    Dense, DenseGeneral (so attention projections, with O = heads x dim), Conv, and the gates of
    recurrent cells made of Dense layers (LSTMCell, GRUCell, …) can be matched. OptimizedLSTMCell
    multiplies by itself and cannot: LSTMCell has the same parameters.

    Args:
      model: any linen module.
      rules: regular expression -> rule. An expression must match the whole '/'-joined path of a
        kernel, such as "encoder/hidden_0/kernel"; the first that matches counts. Layers that none
        matches keep plain backpropagation.
      rows: rows that reach a layer per optimizer step (for a convolution: examples), or {regular
        expression: rows} where layers differ. None means those of the call at hand, which is right
          for one call per step outside vmap. Give it with
        microbatches, shared layers, recurrent cells (batch size x time steps) and vmap over
        examples.
      row_sparse: whether the 2-D kernels that match get row-sparse gradients
        (`backward.row_sparse`), for use with `carry_memory(backward.row_sparse.adam(…))` and the
        like. Convolutions and stacked or 3-D kernels keep dense gradients.
      kernel_layout: how the kernels with row-sparse gradients are stored in "params": "out_in" puts
        an output's weights side by side, which is fastest; "in_out" is linen's own. See
        `Sparsified.to_dense`.

    Returns:
      An object with `init` and `apply`.

    Raises:
      ValueError: no rules, a bad expression, rows < 1, or an unknown layout; at `init` a rule that
        matches nothing.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194).

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax
      >>> from sparsetrain import backward
      >>> model = sparsify(nn.Dense(4, name="hidden"), {r"kernel": backward.memorized_top_k(density=0.25, decay=0.8)})
      >>> variables = model.init(jax.random.key(0), jnp.ones((2, 3)))
      >>> grads = jax.grad(lambda v: model.apply(v, jnp.ones((2, 3))).sum())(variables)
      >>> int((grads["params"]["kernel"] != 0).sum()), [round(float(m), 6) for m in grads["memory"]["kernel"]]
      (3, [0.0, 1.6, 1.6, 1.6])
    """
    check_rules(rules, rows)
    if kernel_layout not in _LAYOUTS:
        raise ValueError(f"kernel_layout={kernel_layout!r}: choose one of {sorted(_LAYOUTS)}")
    return Sparsified(model, rules, rows, row_sparse, kernel_layout)
