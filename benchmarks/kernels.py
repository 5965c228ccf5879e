"""Every kernel against its reference, the machine's copy, and its rivals: checked on fresh data, then timed.

    python -m benchmarks.kernels                   on whatever device there is; minutes
    python -m benchmarks.kernels --quick           small arrays, seconds; no claim can rest on it

On a GPU or TPU the kernels run beside plain XLA; on a CPU there is only the latter. PyTorch is a rival where it
is installed and sees the same device.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import command, machine, timing
from sparsetrain import kernels
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.block_top_k_feedback import shapes

INPUTS = 3  # gradients taken in turn, so that no call finds its own in a cache
COPY = "copy"
REFERENCE = "xla"
Candidates = dict[str, Callable[[int], Any]]


def run(quick: bool = False) -> dict[str, Any]:
    """Checks and times.

    Args:
      quick: small arrays and few calls.

    Returns:
      The record that is written as JSON; seconds are medians.
    """
    effort = timing.QUICK if quick else timing.Effort(rounds=8, most_calls=40)
    cases = {"small": shapes.SMALL} if quick else {"ResNet-50": shapes.RESNET50}
    rows: list[dict[str, Any]] = []
    for name, case in cases.items():
        for dtype in (jnp.float32, jnp.bfloat16):
            found = block_top_k_feedback(*case, dtype)
            agreement(*case, dtype)
            times = timing.measure(found, jax.block_until_ready, effort)
            moved = case[0] * (2 * jnp.dtype(dtype).itemsize + 8)  # g and kept; m and its successor
            ceiling = moved / times[COPY].median
            for each, time in times.items():
                rate = moved / time.median
                rows.append(
                    {
                        "operation": "block_top_k_feedback",
                        "case": f"{name}, {jnp.dtype(dtype).name}",
                        "name": each,
                        "seconds": time.median,
                        "p10": time.p10,
                        "p90": time.p90,
                        "bytes_per_second": rate,
                        "share_of_copy": rate / ceiling,
                    }
                )
    print(table(rows))
    return {"benchmark": "kernels", "quick": quick, "machine": machine.describe(), "rows": rows}


def available() -> list[str]:
    """Implementations that run here."""
    found = []
    for name in dispatch.IMPLEMENTATIONS:
        try:
            found.append(dispatch.choose(name, ()))
        except ValueError:
            continue
    return found


def agreement(entries: int, block: int, k: int, dtype: Any) -> None:
    """Holds what runs here to the reference, on data of which nothing else knows.

    Raises:
      ValueError: an implementation computes something else.
    """
    key = jax.random.key(np.random.default_rng().integers(2**31))
    g = jax.random.normal(key, (entries,), dtype)
    wanted = None
    for name in [REFERENCE, *available()]:
        got = kernels.block_top_k_feedback(
            g, jnp.ones(entries) / 8, k, block=block, implementation=name
        )
        wanted = got if wanted is None else wanted
        for a, b in zip(got, wanted, strict=True):
            if not bool(jnp.all(a == b)):
                raise ValueError(
                    f"{name} differs from {REFERENCE} in {int(jnp.sum(a != b))} entries"
                )


def block_top_k_feedback(entries: int, block: int, k: int, dtype: Any) -> Candidates:
    """Copy, our implementations, top-k over everything by XLA and PyTorch."""
    keys = jax.random.split(jax.random.key(0), INPUTS)
    gradients = [jax.random.normal(key, (entries,), dtype) for key in keys]
    many = max(1, round(entries * k / block))

    def threaded(step: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]) -> Any:
        held = [jnp.zeros(entries)]

        def call(number: int) -> jax.Array:
            kept, held[0] = step(gradients[number % INPUTS], held[0])
            return kept

        return call

    found: Candidates = {COPY: threaded(jax.jit(_copied, donate_argnums=1))}
    for name in available():
        step = functools.partial(
            kernels.block_top_k_feedback, k=k, block=block, implementation=name
        )
        found[name] = threaded(step)
    whole = jax.jit(functools.partial(_top_k_of_all, k=many), donate_argnums=1)
    found["lax.top_k of all, scatter"] = threaded(whole)
    found.update(_torch(gradients, many))
    return found


def _copied(g: jax.Array, m: jax.Array) -> tuple[jax.Array, jax.Array]:
    # A barrier, or XLA would hand back what it was given.
    return lax.optimization_barrier((g * 2, m + 1))


def _top_k_of_all(g: jax.Array, m: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    u = m + g.astype(m.dtype)
    at = lax.top_k(jnp.abs(u), k)[1]
    found = u[at]
    kept = jnp.zeros_like(g).at[at].set(found.astype(g.dtype), unique_indices=True)
    return kept, u.at[at].set(0, unique_indices=True)


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


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text."""
    lines = [f"{'':50s} {'us':>10s} {'GB/s':>8s} {'of copy':>8s}"]
    for row in rows:
        name = f"{row['case']}: {row['name']}"
        rate = row["bytes_per_second"] / 1e9
        lines.append(
            f"{name:50s} {1e6 * row['seconds']:10.1f} {rate:8.1f} {row['share_of_copy']:8.0%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.main(__doc__, run, f"kernels_{jax.default_backend()}.json")
