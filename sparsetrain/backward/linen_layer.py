"""What a linen layer calls in the place of its dense product while a sparsified model runs."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from sparsetrain import numerics
from sparsetrain.backward.conv_general import row_shape, sparse_conv_general
from sparsetrain.backward.dot_general import sparse_dot_general
from sparsetrain.backward.layers import LayerShape, acting_rule, layer_rows
from sparsetrain.backward.memory import PARAMS
from sparsetrain.backward.row_sparse.gradient import RowSparse
from sparsetrain.backward.rule import BackwardRule

# Names that memory and taps have while the model runs; split out before anyone looks.
MEMORY_SUFFIX = "__memory"
TAP_SUFFIXES = {"values": "__tap_values", "columns": "__tap_columns", "calls": "__tap_calls"}
_INJECTED = {
    nn.Dense: "dot_general",
    nn.DenseGeneral: "dot_general",
    nn.Conv: "conv_general_dilated",
}


@dataclasses.dataclass
class Interception:
    """One run of a model: an interceptor for `nn.intercept_methods`, and what it has met so far.

    Attributes:
      rules: regular expression -> rule.
      rows: rows per optimizer step, see `linen.sparsify`.
      tap_axis: output axis of the stored kernels with row-sparse gradients; None where there are
        none.
      live: whether rules act at all; without a "memory" collection they do not.
      called: layers whose rule has acted.
      shapes: every call of a layer that a rule can match.
    """

    rules: Mapping[str, BackwardRule]
    rows: int | Mapping[str, int] | None
    tap_axis: int | None
    live: bool
    called: list[nn.Module] = dataclasses.field(default_factory=list)
    shapes: list[LayerShape] = dataclasses.field(default_factory=list)

    def __call__(self, next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """Lends a matching layer a sparse product for the length of one call."""
        layer = context.module
        attribute = next((a for kind, a in _INJECTED.items() if isinstance(layer, kind)), None)
        if attribute is None or context.method_name != "__call__":
            return next_fn(*args, **kwargs)
        path = "/".join((*layer.path, "kernel"))
        rule = acting_rule(self.rules, path)
        operation = self._product if attribute == "dot_general" else self._convolution
        if getattr(layer, attribute) is not None or getattr(layer, f"{attribute}_cls") is not None:
            if rule is None:
                return next_fn(*args, **kwargs)
            raise ValueError(
                f"rules: layer {path!r} already has a {attribute} of its own; leave it out of the rules"
            )
        # linen modules are frozen; the attribute is given back before anyone else can see it.
        lent = functools.partial(operation, layer, path, rule)
        object.__setattr__(layer, attribute, lent)
        try:
            return next_fn(*args, **kwargs)
        finally:
            object.__setattr__(layer, attribute, None)

    def _product(
        self,
        layer: Any,
        path: str,
        rule: BackwardRule | None,
        x: jax.Array,
        kernel: jax.Array,
        dimension_numbers: Any,
        **options: Any,
    ) -> jax.Array:
        """What a matching Dense or DenseGeneral calls in the place of `lax.dot_general`."""
        _, of_kernel = dimension_numbers[0]
        shape = tuple(n for axis, n in enumerate(kernel.shape) if axis not in of_kernel)
        inputs = kernel.size // max(1, math.prod(shape))
        rows = x.size // max(1, inputs)
        self.shapes.append(LayerShape(path, "dense", rows, inputs, shape, 1, rule))
        step_rows = layer_rows(self.rows, path)
        if rule is None or not self.live:
            return jax.lax.dot_general(x, kernel, dimension_numbers, **options)
        memory = self._memory(layer, path, rule, shape, step_rows or rows)
        tap = self._tap(layer, path, rule, kernel, step_rows or rows)
        self.called.append(layer)
        return sparse_dot_general(
            x, kernel, memory, dimension_numbers, rule, rows=step_rows, tap=tap, **options
        )

    def _convolution(
        self,
        layer: Any,
        path: str,
        rule: BackwardRule | None,
        x: jax.Array,
        kernel: jax.Array,
        window_strides: Any,
        padding: Any,
        **options: Any,
    ) -> jax.Array:
        """What a matching Conv calls in the place of `lax.conv_general_dilated`."""

        def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

        output = jax.eval_shape(dense, x, kernel)
        feature_axis = jax.lax.conv_dimension_numbers(
            x.shape, kernel.shape, options.get("dimension_numbers")
        ).out_spec[1]
        examples, features = output.shape[0], output.shape[feature_axis]
        groups = options.get("feature_group_count", 1)
        positions = output.size // max(1, examples * features)
        inputs = kernel.size // features
        self.shapes.append(
            LayerShape(path, "conv", examples, inputs, (features,), positions, rule, groups)
        )
        step_rows = layer_rows(self.rows, path)
        if rule is None or not self.live:
            return dense(x, kernel)
        shape = row_shape(rule, output.shape, feature_axis)
        memory = self._memory(layer, path, rule, shape, step_rows or examples)
        self.called.append(layer)
        return sparse_conv_general(
            x,
            kernel,
            memory,
            rule,
            window_strides=window_strides,
            padding=padding,
            rows=step_rows,
            **options,
        )

    def _memory(
        self, layer: Any, path: str, rule: BackwardRule, shape: Any, rows: int
    ) -> jax.Array | None:
        """The layer's memory, made while the model is initialized."""
        name = f"kernel{MEMORY_SUFFIX}"
        if layer.is_initializing():
            memory = rule.init(shape, rows)
        else:
            found = layer.has_variable(PARAMS, name)
            memory = layer.get_variable(PARAMS, name) if found else None
        if memory is None:
            return None
        given = layer_rows(self.rows, path) is not None
        self._check_single_call(layer, path, shared_is_fine=given)
        if layer.is_initializing():
            dtype = numerics.accumulator_dtype(layer.param_dtype)
            memory = _declare(layer, name, memory.astype(dtype))
        return memory

    def _tap(
        self,
        layer: Any,
        path: str,
        rule: BackwardRule,
        kernel: jax.Array,
        rows: int,
    ) -> RowSparse | None:
        """Zeros through which the kernel's row-sparse gradient will come out, where one is wanted."""
        if self.tap_axis is None or kernel.ndim != 2:
            return None
        names = {field: f"kernel{suffix}" for field, suffix in TAP_SUFFIXES.items()}
        fields: dict[str, Any]
        if not layer.is_initializing():
            if not layer.has_variable(PARAMS, names["values"]):
                return None
            fields = {field: layer.get_variable(PARAMS, name) for field, name in names.items()}
        else:
            inputs, outputs = kernel.shape
            width = rule.width(outputs, rows)
            if width is None:
                raise ValueError(
                    f"row_sparse=True: {rule} at layer {path!r} with {rows} rows keeps a mask or everything, not few "
                    "columns; use unified_top_k, a smaller density, or row_sparse=False"
                )
            tap = RowSparse.tap(inputs, width, layer.param_dtype, self.tap_axis)
            fields = {
                field: _declare(layer, name, getattr(tap, field)) for field, name in names.items()
            }
        self._check_single_call(layer, path, shared_is_fine=False)
        return RowSparse(**fields, axis=self.tap_axis)

    def _check_single_call(self, layer: Any, path: str, shared_is_fine: bool) -> None:
        """Refuses the uses in which one call cannot know the step's rows, as far as they can be seen from here."""
        if shared_is_fine:
            return
        cure = (
            "row_sparse needs layers that are called once a step; leave this one out of the rules"
            if self.rows is not None
            else "say with rows= how many rows reach it per step (batch size x time steps or calls)"
        )
        parent = layer.parent
        while isinstance(parent, nn.Module):
            if isinstance(parent, nn.RNNCellBase):
                raise ValueError(
                    f"rows={self.rows}: layer {path!r} belongs to a recurrent cell and is called "
                    f"once per time step; {cure}"
                )
            parent = parent.parent
        if any(other is layer for other in self.called):
            raise ValueError(f"rows={self.rows}: layer {path!r} is called more than once; {cure}")


def _declare(layer: Any, name: str, value: jax.Array) -> jax.Array:
    """Puts a param beside a kernel without drawing a key: all others start as in the plain model."""
    if not layer.has_variable(PARAMS, name):
        layer.put_variable(PARAMS, name, value)
    return layer.get_variable(PARAMS, name)
