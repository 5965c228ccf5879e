"""Sparsify an nnx model in place: layers that a rule matches change their class and gain a memory variable."""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from sparsetrain import numerics
from sparsetrain.backward.conv_general import row_shape, sparse_conv_general
from sparsetrain.backward.dot_general import sparse_dot_general
from sparsetrain.backward.layers import acting_rule, check_matches, check_rules, layer_rows
from sparsetrain.backward.memory import NNX_MEMORY

M = TypeVar("M", bound=nnx.Module)
_INJECTED = {
    nnx.Linear: "dot_general",
    nnx.LinearGeneral: "dot_general",
    nnx.Conv: "conv_general_dilated",
}


class Memory(nnx.Variable):
    """What a backward rule remembers; its gradient is its increment."""


# What to differentiate and to optimize: `nnx.DiffState(0, trained)` and `nnx.Optimizer(…,
# wrt=trained)`.
trained = nnx.Any(nnx.Param, Memory)


def _attribute(layer: Any) -> str | None:
    return next((name for kind, name in _INJECTED.items() if isinstance(layer, kind)), None)


def _sparse_call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Lends the layer a sparse product for the length of one call."""
    name = _attribute(layer)
    assert name is not None
    memory = getattr(layer, NNX_MEMORY, None)
    operation = _product if name == "dot_general" else _convolution
    plain = getattr(layer, name)
    arguments = (layer.sparse_rule, layer.sparse_rows, None if memory is None else memory[...])
    # Not by nnx's own setattr: the attribute is given back before the module is split again.
    object.__setattr__(layer, name, functools.partial(operation, *arguments))
    try:
        plain_class: Any = type(layer).__base__
        return plain_class.__call__(layer, *args, **kwargs)
    finally:
        object.__setattr__(layer, name, plain)


def _product(
    rule: Any, rows: int | None, memory: Any, x: Any, kernel: Any, numbers: Any, **options: Any
) -> jax.Array:
    return sparse_dot_general(x, kernel, memory, numbers, rule, rows=rows, **options)


def _convolution(
    rule: Any,
    rows: int | None,
    memory: Any,
    x: Any,
    kernel: Any,
    window_strides: Any,
    padding: Any,
    **options: Any,
) -> jax.Array:
    if options.get("out_sharding") is None:
        options.pop("out_sharding", None)
    return sparse_conv_general(
        x,
        kernel,
        memory,
        rule,
        window_strides=window_strides,
        padding=padding,
        rows=rows,
        **options,
    )


@functools.cache
def _sparse_class(kind: type) -> type:
    """One subclass a layer class, so that equal models stay equal to jit."""
    members = {"__call__": _sparse_call, "__module__": __name__, "is_sparsified": True}
    return type(f"Sparse{kind.__name__}", (kind,), members)


def _output_shape(layer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output shape of one row, and the leading axes of a stacked kernel."""
    kernel = layer.kernel.shape
    if isinstance(layer, nnx.LinearGeneral):
        outputs = tuple(layer.out_features)
        return outputs, kernel[: len(kernel) - len(tuple(layer.in_features)) - len(outputs)]
    if isinstance(layer, nnx.Conv):
        size = layer.kernel_size
        spatial = 1 if isinstance(size, int) else len(size)
        return kernel[-1:], kernel[: len(kernel) - spatial - 2]
    return kernel[-1:], kernel[:-2]


def _convolution_outputs(model: nnx.Module, inputs: tuple[Any, ...]) -> dict[str, tuple[Any, int]]:
    """Output shape and feature axis of every convolution, by abstract evaluation."""
    found: dict[str, tuple[Any, int]] = {}
    layers = [(path, m) for path, m in nnx.iter_modules(model) if isinstance(m, nnx.Conv)]
    plain = {id(layer): layer.conv_general_dilated for _, layer in layers}

    def recorder(path: str, convolve: Any) -> Any:
        def record(x: Any, kernel: Any, *args: Any, **kwargs: Any) -> Any:
            output = convolve(x, kernel, *args, **kwargs)
            numbers = jax.lax.conv_dimension_numbers(
                x.shape, kernel.shape, kwargs.get("dimension_numbers")
            )
            found[path] = (output.shape, numbers.out_spec[1])
            return output

        return record

    try:
        for path, layer in layers:
            name = "/".join(map(str, path))
            object.__setattr__(
                layer, "conv_general_dilated", recorder(name, layer.conv_general_dilated)
            )
        nnx.eval_shape(lambda model, inputs: model(*inputs), model, inputs)
    finally:
        for _, layer in layers:
            object.__setattr__(layer, "conv_general_dilated", plain[id(layer)])
    return found


def sparsify(
    model: M,
    rules: Mapping[str, Any],
    rows: int | Mapping[str, int] | None = None,
    *,
    inputs: tuple[Any, ...] | None = None,
) -> M:
    """Gives the layers of an nnx model sparse backward rules, in place.

    Linear, LinearGeneral (so attention projections), Conv, and whatever is made of them (LSTMCell,
    OptimizedLSTMCell, GRUCell, …) can be matched. Train with

        grads = nnx.grad(loss, argnums=nnx.DiffState(0, backward.nnx.trained))(model, …)
        optimizer = nnx.Optimizer(model, backward.carry_memory(tx), wrt=backward.nnx.trained)

    Args:
      model: any nnx module; changed.
      rules: regular expression -> rule, as for `backward.linen.sparsify`; paths are those of
        `nnx.state`, such as "encoder/hidden/kernel".
      rows: rows that reach a layer per optimizer step, as for `backward.linen.sparsify`; an nnx
        layer cannot see how often it is called, so give it with shared layers, recurrent cells and
        microbatches.
      inputs: arguments of the model's call (arrays or shapes). Needed only for convolutions whose
        memory holds one entry for every position: rules that select per example.

    Returns:
      The same model.

    Raises:
      ValueError: no rules, a rule that matches nothing, rows < 1, or a memory whose shape cannot be
        known.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from sparsetrain import backward
      >>> model = sparsify(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), {r"kernel": backward.memorized_top_k(0.25, decay=0.8)})
      >>> grads = nnx.grad(lambda m: m(jnp.ones((2, 3))).sum(), argnums=nnx.DiffState(0, trained))(model)
      >>> int((grads["kernel"][...] != 0).sum()), [round(float(m), 6) for m in grads["sparse_memory"][...]]
      (3, [0.0, 1.6, 1.6, 1.6])
    """
    check_rules(rules, rows)
    layers: dict[str, Any] = {
        "/".join((*map(str, path), "kernel")): layer
        for path, layer in nnx.iter_modules(model)
        if _attribute(layer) is not None
    }
    check_matches(rules, layers)
    convolutions = {} if inputs is None else _convolution_outputs(model, inputs)
    memories: dict[str, Any] = {}
    for path, layer in layers.items():
        rule = acting_rule(rules, path)
        if rule is None:
            continue
        shape, stacked = _output_shape(layer)
        step_rows = layer_rows(rows, path)
        if isinstance(layer, nnx.Conv) and not rule.shares_columns:
            name = path.removesuffix("/kernel").removesuffix("kernel")
            if name in convolutions:
                shape = row_shape(rule, *convolutions[name])
            elif rule.init(shape, step_rows or 1) is not None:
                raise ValueError(
                    f"inputs=None: the memory of {rule} at convolution {path!r} has one entry for "
                    "every output position; give inputs=(x,), or use a rule over channels such as unified_top_k"
                )
        memories[path] = rule.init(shape, step_rows)
        if memories[path] is not None:
            dtype = numerics.accumulator_dtype(layer.kernel.dtype)
            memories[path] = jnp.broadcast_to(memories[path], (*stacked, *memories[path].shape))
            memories[path] = memories[path].astype(dtype)
    # Only now, so that a rule that does not fit leaves the model as it was.
    for path, memory in memories.items():
        layer = layers[path]
        kind: Any = type(layer)
        layer.__class__ = _sparse_class(kind)
        layer.sparse_rule = acting_rule(rules, path)
        layer.sparse_rows = layer_rows(rows, path)
        if memory is not None:
            setattr(layer, NNX_MEMORY, Memory(memory))
    return model


def densify(model: M) -> M:
    """Takes rules and memories off again: the plain model, for evaluation or export.

    Args:
      model: a sparsified nnx module; changed.

    Returns:
      The same model.

    Example:
      >>> from flax import nnx
      >>> from sparsetrain import backward
      >>> model = sparsify(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), {r"kernel": backward.top_k(0.25)})
      >>> type(densify(model)) is nnx.Linear
      True
    """
    modules: list[Any] = [layer for _, layer in nnx.iter_modules(model)]
    for layer in modules:
        if getattr(type(layer), "is_sparsified", False):
            layer.__class__ = type(layer).__base__
            for name in ("sparse_rule", "sparse_rows", NNX_MEMORY):
                if hasattr(layer, name):
                    delattr(layer, name)
    return model
