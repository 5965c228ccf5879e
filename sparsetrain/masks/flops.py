"""What a forward pass costs, and which weights it is spent on: counted from shapes, nothing runs.

A product of sizes a x b x c is a b c multiply-adds, two operations each. Sparse weights save those of
their zeros:

    dense = sum_l F_l + rest,    sparse = sum_l density_l F_l + rest

F_l is what the products with leaf l take, found by following their operands back to the parameters.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal

from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.programs import contains

# Operations that are a function called once, and where its program is.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
_OTHER = ""  # What no single leaf is charged with.


class Flops(NamedTuple):
    """Floating point operations of a forward pass, a multiply-add counted as two.

    Attributes:
      by_leaf: '/'-joined path -> operations of its products; leaves without any are left out.
      other: operations of products without a weight, such as those of attention.
    """

    by_leaf: dict[str, int]
    other: int

    @property
    def dense(self) -> int:
        """All of them."""
        return self.other + sum(self.by_leaf.values())

    def sparse(self, densities: Mapping[str, float]) -> float:
        """What is left when zeros cost nothing.

        Args:
          densities: path -> fraction of the leaf that is not masked; others are dense.

        Returns:
          The sum; not an integer in general.
        """
        return self.other + sum(
            count * densities.get(path, 1.0) for path, count in self.by_leaf.items()
        )


class _Value(NamedTuple):
    """Where an array comes from."""

    is_data: bool  # Depends on the inputs, or is an activation.
    shares: tuple[tuple[str, float], ...] = ()  # Else: leaves it is made of, and how much of each.


_DATA, _CONSTANT = _Value(True), _Value(False)


def flops(function: Callable[..., Any], params: Any, *inputs: Any) -> Flops:
    """Counts the multiply-adds of a function, and charges each to a parameter.

    Counted are matrix products and convolutions, also inside `jit`, `scan` (times its length) and
    `remat`; of the branches of a `cond` the dearest. Taps of a convolution that fall into padding
    count. Biases, norms, activations and lookups do not.

    Args:
      function: (params, *inputs) -> anything, such as `lambda p, x: model.apply({"params": p}, x)`.
      params: tree of parameters; `jax.ShapeDtypeStruct`s will do.
      *inputs: likewise. A batch of one gives the operations of one example.

    Returns:
      `Flops`. A product of two activations, or of two weights, is charged to no leaf; one with a
      value made of several leaves to the largest, or, where they were concatenated, to each its share.

    Raises:
      ValueError: products inside a loop of unknown length, or inside a hand-written kernel.

    Example:
      >>> import jax.numpy as jnp
      >>> weights = {"a": jax.ShapeDtypeStruct((8, 4), jnp.float32), "b": jax.ShapeDtypeStruct((4, 2), jnp.float32)}
      >>> found = flops(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], weights, jnp.ones((1, 8)))
      >>> found.by_leaf, found.dense, found.sparse({"a": 0.25})
      ({'a': 64, 'b': 16}, 80, 32.0)
    """
    closed = jax.make_jaxpr(function)(params, *inputs)
    leaves = leaves_by_path(params)
    sizes = {path: math.prod(leaf.shape) for path, leaf in leaves.items()}
    known = [_Value(False, ((path, 1.0),)) for path in leaves]
    known += [_DATA] * (len(closed.jaxpr.invars) - len(known))
    _, counts = _walk(closed, known, sizes)
    found = {path: round(counts[path]) for path in leaves if counts[path]}
    return Flops(found, round(counts[_OTHER]))


def _walk(
    program: Any, known: Sequence[_Value], sizes: Mapping[str, int]
) -> tuple[list[_Value], Counter[str]]:
    """Origins of a program's outputs, and its operations by leaf."""
    program = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    origins: dict[Any, _Value] = dict(zip(program.invars, known, strict=True))
    counts: Counter[str] = Counter()

    def origin(atom: Any) -> _Value:
        return _CONSTANT if isinstance(atom, Literal) else origins.get(atom, _CONSTANT)

    for equation in program.eqns:
        operands = [origin(atom) for atom in equation.invars]
        of_equation = _RULES.get(equation.primitive.name, _elsewhere)
        outputs, found = of_equation(equation, operands, sizes)
        origins.update(zip(equation.outvars, outputs, strict=True))
        counts.update(found)
    return [origin(atom) for atom in program.outvars], counts


def _product(equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int]) -> Any:
    del sizes
    left, right = (atom.aval.shape for atom in equation.invars[:2])
    made = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        count = 2 * made * math.prod(left[axis] for axis in contracted)
    else:
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        taps = math.prod(size for axis, size in enumerate(right) if axis != outputs)
        # Between the inputs of a transposed convolution there are zeros that nobody multiplies.
        count = 2 * made * taps // math.prod(equation.params["lhs_dilation"])
    weights = [each for each in operands[:2] if not each.is_data and each.shares]
    shares = weights[0].shares if len(weights) == 1 else ((_OTHER, 1.0),)
    return [_DATA], Counter({path: count * share for path, share in shares})


def _joined(equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int]) -> Any:
    """Concatenation: every leaf has its share."""
    if any(each.is_data or not each.shares for each in operands):
        return _elsewhere(equation, operands, sizes)
    whole = equation.outvars[0].aval.size
    shares: Counter[str] = Counter()
    for atom, operand in zip(equation.invars, operands, strict=True):
        shares.update({path: share * atom.aval.size / whole for path, share in operand.shares})
    return [_Value(False, tuple(shares.items()))], Counter()


def _called(
    equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int], *, program: str
) -> Any:
    return _walk(equation.params[program], operands, sizes)


def _scanned(equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int]) -> Any:
    if "num_consts" in equation.params:
        constants, carried = equation.params["num_consts"], equation.params["num_carry"]
    else:  # Since JAX 0.11: (constants, carry, inputs), a place for each array.
        constants, carried = (len(part) for part in equation.params["ft_in"].unpack()[:2])
    carry = list(operands[constants : constants + carried])
    while True:
        values = [*operands[:constants], *carry, *operands[constants + carried :]]
        outputs, counts = _walk(equation.params["jaxpr"], values, sizes)
        # A value that the body replaces is not what came in.
        stable = [old if old == new else _DATA for old, new in zip(carry, outputs, strict=False)]
        if stable == carry:
            break
        carry = stable
    length = equation.params["length"]
    return outputs, Counter({path: length * count for path, count in counts.items()})


def _branched(equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int]) -> Any:
    found = [_walk(branch, operands[1:], sizes) for branch in equation.params["branches"]]
    outputs, counts = max(found, key=lambda each: each[1].total())
    same = [len({each[0][i] for each in found}) == 1 for i in range(len(outputs))]
    kept = [value if alike else _DATA for value, alike in zip(outputs, same, strict=True)]
    return kept, counts


def _elsewhere(equation: Any, operands: Sequence[_Value], sizes: Mapping[str, int]) -> Any:
    """Everything that is no product: masks, casts, transposes, sums."""
    if contains(equation.params, *_PRODUCTS):
        name = equation.primitive.name
        raise ValueError(
            f"function: products inside {name!r} cannot be counted, since how often they run is unknown; "
            "count a variant with scan, or without the kernel"
        )
    shares: dict[str, float] = {}
    for each in operands:
        shares |= dict(each.shares)
    if any(each.is_data for each in operands):
        value = _DATA
    elif len({each.shares for each in operands if each.shares}) == 1:
        value = next(each for each in operands if each.shares)
    elif shares:
        value = _Value(False, ((max(shares, key=lambda path: sizes[path]), 1.0),))
    else:
        value = _CONSTANT
    return [value] * len(equation.outvars), Counter()


_PRODUCTS = ("dot_general", "conv_general_dilated")
_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_PRODUCTS, _product),
    **{name: functools.partial(_called, program=program) for name, program in _CALLS.items()},
    "concatenate": _joined,
    "cond": _branched,
    "scan": _scanned,
}
