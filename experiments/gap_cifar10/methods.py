"""What each method is, as an optimizer that owns the masks."""

from typing import Any

import optax

from experiments.gap_cifar10.runs import SETTINGS, Run
from sparsetrain import masks
from sparsetrain.models import ResNet

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
# As in the paper's ResNet-50: the first convolution and the classifier.
DENSE = "(conv|output)/kernel"


def network(run: Run) -> ResNet:
    """The network of a run, with batch norm."""
    return ResNet(blocks=(run.depth - 2) // 6)


def partitions(run: Run) -> masks.Partitions:
    """The three stages of the network: kappa = 3.

    Example:
      >>> partitions(Run("C-GaP", 0, depth=20)).owners("block_5/conv_1/kernel")
      ['stage_1']
    """
    blocks = (run.depth - 2) // 6
    rules = {}
    for stage in range(3):
        numbers = "|".join(str(stage * blocks + number) for number in range(blocks))
        rules[f"stage_{stage}"] = f"block_({numbers})/.*"
    return masks.partitions(rules, dense=DENSE)


def sgd(updates: int) -> optax.GradientTransformation:
    """Momentum, weight decay, and one cosine with a warm-up of its twentieth part."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, LEARNING_RATE, warmup_steps=updates // 20, decay_steps=updates
    )
    return optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(rate, momentum=MOMENTUM))


def build(run: Run, key: Any) -> optax.GradientTransformation:
    """The optimizer of a run.

    Args:
      run: what to train.
      key: of the random first masks.

    Returns:
      An optax transformation.

    Raises:
      ValueError: an unknown method.
    """
    setting = SETTINGS[run.setting]
    total, density = setting.updates, 1 - run.sparsity
    if run.method == "dense":
        return sgd(total)
    if run.method == "GMP":
        # From an eighth of the run to three quarters of it, a hundred times at most.
        begin, end = max(1, total // 8), max(1, total * 3 // 4)
        every = max(1, (end - begin) // 100)
        return masks.gradual(sgd(total), density, begin=begin, end=end, every=every, dense=DENSE)
    if run.method == "C-GaP":
        return masks.grow_and_prune(
            sgd(setting.phase),
            density,
            partitions(run),
            steps_per_phase=setting.phase,
            phases=setting.phases,
            key=key,
            fine_tune=sgd(setting.fine_tune),
        )
    raise ValueError(f"method={run.method!r} is unknown")
