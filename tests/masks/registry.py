"""Every method of `sparsetrain.masks`, for the contract suites, and the tiny model that they train.

A new method is one entry in `METHODS`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain import masks
from sparsetrain.masks.partition import leaves_by_path

DENSITY = 0.25
UPDATES = 8  # All methods are through with their schedule after 6.
KEY = jax.random.key(7)
SHAPES = {"a": (4, 6), "b": (6, 8), "c": (2, 2, 2, 4)}
PARTS = masks.partitions({"one": r"a/.*", "two": r"(?!a/).*"})


class Method(NamedTuple):
    """A method and what may be expected of it.

    Attributes:
      make: (inner, density, key, axis_name, other options) -> transformation, through with its schedule after 6
        updates.
      start: active weights before the first update: "sparse", exactly k of each leaf, or "dense".
      end: after the last: "each", exactly k of each leaf; "total", of all together; or "any".
      skips: numbers of the updates whose place a change takes, so that nothing else moves.
      drawn: whether the key decides on masks.
      restarts: updates before which the optimizer's state is made anew.
      inner: finds the plain optimizer's state in what the wrapper keeps.
    """

    make: Callable[..., optax.GradientTransformationExtraArgs]
    start: str = "sparse"
    end: str = "each"
    skips: tuple[int, ...] = ()
    drawn: bool = True
    restarts: tuple[int, ...] = ()
    inner: Callable[[Any], Any] = lambda state: state


def method(factory: Callable[..., Any], *given: Any, **facts: Any) -> Callable[..., Method]:
    """An entry: facts first, then the options of the factory."""

    def with_options(**options: Any) -> Method:
        def make(inner: Any, density: float, key: Any, axis_name: Any, **changes: Any) -> Any:
            keyed = {"key": key} if facts.get("drawn", True) else {}
            chosen = {**options, **changes}
            return factory(inner, density, *given, axis_name=axis_name, **keyed, **chosen)

        return Method(make, **facts)

    return with_options


METHODS = {
    "grow_and_prune": method(masks.grow_and_prune, PARTS, restarts=(2, 4, 6))(
        steps_per_phase=2, phases=3
    ),
    "grow_and_prune_random": method(masks.grow_and_prune, PARTS)(
        steps_per_phase=2, phases=3, order="random", restart=False
    ),
    "grow_and_prune_global": method(masks.grow_and_prune, PARTS, end="any", restarts=(2, 4, 6))(
        steps_per_phase=2, phases=3, distribution="global"
    ),
    "gradual": method(masks.gradual, start="dense", drawn=False)(begin=1, end=6, every=2),
    "rigl": method(masks.rigl, skips=(2, 4, 6))(every=2, until=7, distribution="uniform"),
    "evolutionary": method(masks.evolutionary)(every=2, until=7, distribution="uniform"),
    "static": method(masks.static)(),
    "one_shot": method(masks.one_shot, start="dense", drawn=False)(at=4),
    "iterative": method(masks.iterative, start="dense", drawn=False)(
        at=6, before=((2, 0.75), (4, 0.5))
    ),
    "admm": method(masks.admm, start="dense", drawn=False, inner=lambda state: state[1])(
        end=4, every=2, rho=0.125
    ),
    "dynamic_reparameterization": method(masks.dynamic_reparameterization, end="total")(
        every=2, until=7, threshold=0.25
    ),
    "deep_rewiring": method(masks.deep_rewiring, end="total")(learning_rate=0.125, l1=0.5, until=6),
}
NAMES = sorted(METHODS)


def make(
    name: str,
    inner: optax.GradientTransformation | None = None,
    *,
    density: float = DENSITY,
    key: Any = KEY,
    axis_name: Any = None,
    **changes: Any,
) -> optax.GradientTransformationExtraArgs:
    """A method around an optimizer; that is `plain()` if none is given."""
    inner = plain() if inner is None else inner
    return METHODS[name].make(inner, density, key, axis_name, **changes)


def plain() -> optax.GradientTransformationExtraArgs:
    """An optimizer with momentum that needs `value=`; its arithmetic is exact whatever fuses it."""
    sgd = optax.sgd(0.125, momentum=0.5)
    return optax.chain(sgd, optax.contrib.reduce_on_plateau(patience=100))


@functools.cache
def model(seed: int = 0, dtype: Any = jnp.float32) -> Any:
    """Parameters, or gradients, of three layers: one without a bias, one a convolution."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), dtype)

    tree: dict[str, Any] = {name: {"kernel": normal(*shape)} for name, shape in SHAPES.items()}
    tree["a"]["bias"], tree["b"]["bias"] = normal(6), None
    return {**tree, "nothing": None}


def gradients(step: int, dtype: Any = jnp.float32) -> Any:
    """Of the update after `step` others."""
    return model(100 + step, dtype)


@functools.cache
def _options() -> dict[str, Any]:
    """Compiles in half the time, where the compiler knows these; nothing here runs long."""
    wanted = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}
    try:
        jax.jit(lambda x: x + 1, compiler_options=wanted)(1.0)
    except Exception:
        return {}
    return wanted


def quick_jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` that compiles fast and runs slowly."""
    return jax.jit(function, compiler_options=_options(), **options)


def check_zero(params: Any, state: Any, note: Any = None) -> None:
    """Asserts that masked weights are exactly zero."""
    leaves = leaves_by_path(params)
    for path, mask in masks.find(state).masks.items():
        dead = np.asarray(leaves[path], np.float32)[~np.asarray(mask)]
        assert not np.any(dead), (path, note)
