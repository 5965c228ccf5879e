"""Cases of selection: block-local top-k with feedback, counting, and the exact top-k of everything."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.kernels_case import (
    INPUTS,
    REFERENCE,
    Candidates,
    Case,
    available,
    fresh_key,
    hold_equal,
)
from sparsetrain import kernels
from sparsetrain.kernels.block_top_k_feedback import shapes as block_shapes
from sparsetrain.kernels.count_above import MOST
from sparsetrain.kernels.count_above import shapes as count_shapes
from sparsetrain.kernels.pattern import magnitude_patterns
from sparsetrain.selection import mask, threshold

COPY = "copy"
DENSITY = 0.01
Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # (g, m) -> (new m, kept)


def cases(quick: bool) -> Iterator[Case]:
    """One after the other.

    Args:
      quick: small arrays.
    """
    entries, block, k = block_shapes.SMALL if quick else block_shapes.RESNET50
    for dtype in (jnp.float32, jnp.bfloat16):
        name = jnp.dtype(dtype).name
        moved = entries * (2 * jnp.dtype(dtype).itemsize + 8)  # g and kept; m and its successor
        yield Case(
            "block_top_k_feedback",
            f"{entries} {name}, {k} of {block}",
            moved,
            0,
            COPY,
            functools.partial(block_top_k, entries, block, k, dtype),
            functools.partial(check_block_top_k, entries, block, k, dtype),
        )
    yield Case(
        "exact top-k of all, feedback",
        f"{entries} float32, {DENSITY:.0%}",
        24 * entries,  # a pass that counts, and one that splits
        0,
        COPY,
        functools.partial(exact_top_k, entries),
        functools.partial(check_exact, entries),
    )
    entries = count_shapes.SMALL if quick else count_shapes.RESNET50
    yield Case(
        "count_above, 15 thresholds",
        f"{entries} float32",
        4 * entries,
        0,
        "one threshold",
        functools.partial(counting, entries),
        functools.partial(check_counting, entries),
    )


def block_top_k(entries: int, block: int, k: int, dtype: Any) -> Candidates:
    """Copy, our implementations, top-k over everything by XLA and PyTorch."""
    gradients = _gradients(entries, dtype)
    found: Candidates = {COPY: _threaded(gradients, _copied)}
    for name in available():
        step = functools.partial(_block_step, k=k, block=block, implementation=name)
        found[name] = _threaded(gradients, step)
    many = max(1, round(entries * k / block))
    found["lax.top_k of all, scatter"] = _threaded(
        gradients, functools.partial(_top_k_step, k=many)
    )
    found.update(_torch(gradients, many))
    return found


def check_block_top_k(entries: int, block: int, k: int, dtype: Any) -> None:
    """To the bit, for what is kept and what stays."""
    g = jax.random.normal(fresh_key(), (entries,), dtype)

    def run(name: str) -> Any:
        m = jnp.ones(entries) / 8
        return kernels.block_top_k_feedback(g, m, k, block=block, implementation=name)

    wanted = run(REFERENCE)
    for name in available():
        hold_equal(name, run(name), wanted)


def exact_top_k(entries: int) -> Candidates:
    """Ours with whatever counts fastest here, a sort of the bits, and `lax.top_k`."""
    gradients, k = _gradients(entries, jnp.float32), max(1, round(DENSITY * entries))
    return {
        COPY: _threaded(gradients, _copied),
        "ours": _threaded(gradients, functools.partial(_exact_step, k=k)),
        "sort of the bits": _threaded(gradients, functools.partial(_sort_step, k=k)),
        "lax.top_k, scatter": _threaded(gradients, functools.partial(_top_k_step, k=k)),
        **dict(_torch(gradients, k)),
    }


def check_exact(entries: int) -> None:
    """Against a stable sort in NumPy."""
    k = max(1, round(DENSITY * entries))
    g = jax.random.normal(fresh_key(), (entries,))
    rest, kept = jax.jit(functools.partial(_exact_step, k=k))(g, jnp.zeros(entries))
    order = np.argsort(-np.abs(np.asarray(g)), kind="stable")[:k]
    wanted = np.zeros(entries, np.float32)
    wanted[order] = np.asarray(g)[order]
    hold_equal("ours", (kept, rest), (jnp.asarray(wanted), g - wanted))


def counting(entries: int) -> Candidates:
    """A pass of our implementations; a plain count of one threshold is what reading takes."""
    values = _gradients(entries, jnp.float32)
    probes = [magnitude_patterns(jnp.linspace(0.1, 3.0, MOST) * (1 + 0.01 * i)) for i in range(2)]

    def over(count: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[[int], Any]:
        compiled = jax.jit(count)
        return lambda number: compiled(values[number % INPUTS], probes[number % 2])

    found = {"one threshold": over(lambda v, t: jnp.sum(magnitude_patterns(v) >= t[0]))}
    for name in available():
        found[name] = over(functools.partial(kernels.count_above, implementation=name))
    return found


def check_counting(entries: int) -> None:
    """To the number."""
    values = jax.random.normal(fresh_key(), (entries,))
    probes = magnitude_patterns(jnp.linspace(0.0, 3.0, MOST))
    wanted = np.sum(np.abs(np.asarray(values))[:, None] >= np.linspace(0, 3, 1), axis=0)
    reference = kernels.count_above(values, probes, implementation=REFERENCE)
    hold_equal(REFERENCE, reference[:1], jnp.asarray(wanted, jnp.int32))
    for name in available():
        hold_equal(name, kernels.count_above(values, probes, implementation=name), reference)


def _gradients(entries: int, dtype: Any) -> list[jax.Array]:
    return [
        jax.random.normal(key, (entries,), dtype)
        for key in jax.random.split(jax.random.key(0), INPUTS)
    ]


def _threaded(gradients: list[jax.Array], step: Step) -> Callable[[int], Any]:
    """The step with a memory that goes from call to call in one buffer."""
    held = [jnp.zeros(gradients[0].shape)]
    compiled = jax.jit(step, donate_argnums=1)

    def call(number: int) -> jax.Array:
        held[0], kept = compiled(gradients[number % INPUTS], held[0])
        return kept

    return call


def _copied(g: jax.Array, m: jax.Array) -> tuple[jax.Array, jax.Array]:
    # A barrier, or XLA would hand back what it was given.
    return lax.optimization_barrier((m + 1, g * 2))


def _block_step(g: jax.Array, m: jax.Array, **options: Any) -> tuple[jax.Array, jax.Array]:
    kept, rest = kernels.block_top_k_feedback(g, m, **options)
    return rest, kept


def _exact_step(g: jax.Array, m: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    u = m + g
    pattern, last = mask.cut([u], threshold.find_in_array(u, k), k)
    is_kept = mask.kept(u, pattern, last[0])
    return jnp.where(is_kept, 0, u), jnp.where(is_kept, u, 0)


def _sort_step(g: jax.Array, m: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Ties are all kept: the rival does less."""
    u = m + g
    patterns = magnitude_patterns(u)
    is_kept = patterns >= jnp.sort(patterns)[u.shape[0] - k]
    return jnp.where(is_kept, 0, u), jnp.where(is_kept, u, 0)


def _top_k_step(g: jax.Array, m: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    u = m + g.astype(m.dtype)
    at = lax.top_k(jnp.abs(u), k)[1]
    found = u[at]
    kept = jnp.zeros_like(g).at[at].set(found.astype(g.dtype), unique_indices=True)
    return u.at[at].set(0, unique_indices=True), kept


def _torch(gradients: list[jax.Array], k: int) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """`torch.topk` and scatter, on the same device."""
    try:
        import torch
    except ImportError:
        return
    on_gpu = jax.default_backend() == "gpu"
    if jax.default_backend() == "tpu" or (on_gpu and not torch.cuda.is_available()):
        return
    device = "cuda" if on_gpu else "cpu"
    wide = [np.asarray(g.astype(jnp.float32)) for g in gradients]
    kind = torch.bfloat16 if gradients[0].dtype == jnp.bfloat16 else torch.float32
    there = [torch.tensor(g).to(device, kind) for g in wide]
    held = [torch.zeros(gradients[0].size, device=device)]

    def call(number: int) -> Any:
        u = held[0] + there[number % INPUTS].float()
        at = torch.topk(u.abs(), k, sorted=False).indices
        kept = torch.zeros_like(there[0]).scatter_(0, at, u[at].to(kind))
        held[0] = u.scatter_(0, at, 0.0)
        if on_gpu:
            torch.cuda.synchronize()
        return kept.shape[0]

    yield "torch.topk of all, scatter", call
