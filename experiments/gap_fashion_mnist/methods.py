"""What each method is, as an optimizer that owns the masks."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax

from experiments.gap_fashion_mnist.runs import Run
from sparsetrain import masks
from sparsetrain.models import MLP, LeNet5

LEARNING_RATE = 0.05
AXIS = "workers"
# The last layer is dense in every run, as the paper's is.
DENSE = "output/kernel"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet-300-100": lambda: MLP(hidden=(300, 100)),
    "mlp4": lambda: MLP(hidden=(300, 200, 150, 100)),
    "conv": lambda: LeNet5(channels=(8, 16), hidden=64),
}
LAYERS = {
    "lenet-300-100": ("hidden_0", "hidden_1"),
    "mlp4": ("hidden_0", "hidden_1", "hidden_2", "hidden_3"),
    "conv": ("conv_0", "conv_1", "hidden"),
}
# Methods whose masks are drawn inside the update, so that a program belongs to its seed.
DRAWS = ("SET",)


def partitions(run: Run) -> masks.Partitions:
    """kappa partitions of contiguous layers.

    Example:
      >>> partitions(Run("C-GaP", 0.9, 0, network="mlp4", kappa=2)).names
      ('0', '1')
    """
    layers = LAYERS[run.network]
    kappa = min(run.kappa, len(layers))
    groups: list[list[str]] = [[] for _ in range(kappa)]
    for number, layer in enumerate(layers):
        groups[number * kappa // len(layers)].append(layer)
    # P-GaP takes biases from the owner too, and the output layer from the last.
    groups[-1].append("output")
    rules = {str(number): f"({'|'.join(group)})/.*" for number, group in enumerate(groups)}
    return masks.partitions(rules, dense=DENSE)


def sgd(steps: int) -> optax.GradientTransformation:
    """The optimizer of everything: Nesterov-free momentum .9, one cosine from the first step to the last."""
    return optax.sgd(optax.cosine_decay_schedule(LEARNING_RATE, steps), momentum=0.9)


def build(
    run: Run, steps: int, key: Any, scores: Any = None
) -> optax.GradientTransformationExtraArgs | optax.GradientTransformation:
    """The optimizer of a run.

    Args:
      run: what to train.
      steps: updates of an epoch.
      key: of first masks and of draws.
      scores: of SNIP.

    Returns:
      An optax transformation.
    """
    total, density = run.epochs * steps, 1 - run.sparsity
    inner = sgd(total)
    if run.method == "dense":
        return inner
    if run.method in ("C-GaP", "P-GaP"):
        count, each = run.phases
        is_parallel = run.method == "P-GaP"
        alone = count * each * (run.kappa if is_parallel else 1)
        return masks.grow_and_prune(
            sgd(each * steps),
            density,
            partitions(run),
            steps_per_phase=each * steps,
            phases=count,
            key=key,
            fine_tune=sgd((run.epochs - alone) * steps),
            distribution=run.distribution,
            structure="unstructured" if run.structure == "unstructured" else masks.block(1, 8),
            order="parallel" if is_parallel else run.order,
            axis_name=AXIS if is_parallel else None,
        )
    drop = {"key": key, "dense": DENSE, "distribution": "uniform"}
    until = max(1, total * 3 // 4)
    if run.method == "static":
        return masks.static(inner, density, **drop)
    if run.method == "SNIP":
        return masks.static(inner, density, scores=scores, dense=DENSE, distribution="global")
    if run.method == "SET":
        return masks.evolutionary(inner, density, every=steps, until=until, **drop)
    if run.method == "RigL":
        return masks.rigl(inner, density, every=min(100, steps), until=until, **drop)
    if run.method == "GMP":
        begin = max(1, total // 8)
        return masks.gradual(
            inner, density, begin=begin, end=until, every=min(100, steps), dense=DENSE
        )
    if run.method == "one-shot":
        half = total // 2
        return masks.one_shot(sgd(half), density, at=half, fine_tune=sgd(total - half), dense=DENSE)
    raise ValueError(f"method={run.method!r} is unknown")


def initial(run: Run, key: Any, images: jax.Array) -> Any:
    """First parameters, the same for every method of a seed."""
    return NETWORKS[run.network]().init(key, images[:1])["params"]
