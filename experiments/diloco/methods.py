"""What each method is, as the optimizer of one of several workers."""

import optax

from experiments.diloco.runs import Run
from sparsetrain import compress

AXIS = "workers"
WORKERS = 4
RATE, WARM_UP, WEIGHT_DECAY, CLIP = 3e-3, 50, 0.1, 1.0
# Of the paper, section 3.1.
OUTER_RATE, OUTER_MOMENTUM = 0.7, 0.9


def adamw(steps: int) -> optax.GradientTransformation:
    """The optimizer that every worker has: warm-up, then a cosine to a tenth; clipped gradients."""
    warm_up = min(WARM_UP, steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, warm_up, steps, RATE / 10)
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(rate, weight_decay=WEIGHT_DECAY)
    )


def compressor(run: Run) -> compress.Compressor:
    """What is sent.

    Raises:
      ValueError: an unknown method.
    """
    if run.method in ("every step", "dense"):
        return compress.dense()
    if run.method == "top-k":
        return compress.top_k(run.density)
    if run.method == "SBC":
        return compress.sparse_binary(run.density)
    if run.method == "STC":
        return compress.sparse_ternary(run.density)
    if run.method == "sign":
        return compress.scaled_sign()
    raise ValueError(f"method={run.method!r} is unknown; see experiments/diloco/runs.py")


def optimizer(run: Run) -> optax.GradientTransformation:
    """The optimizer of one worker; runs under `vmap` with the axis `AXIS`.

    Example:
      >>> import jax.numpy as jnp
      >>> optimizer(Run("SBC", 0, 0.01)).init(jnp.ones(4)).outer[0].trace.tolist()
      [0.0, 0.0, 0.0, 0.0]
    """
    inner = adamw(run.steps)
    if run.method == "every step":
        return optax.chain(compress.exchange(compress.dense(), axis_name=AXIS), inner)
    outer = None
    if run.outer == "nesterov":
        outer = optax.sgd(OUTER_RATE, momentum=OUTER_MOMENTUM, nesterov=True)
    return compress.local_steps(inner, run.every, compressor(run), outer, axis_name=AXIS)
