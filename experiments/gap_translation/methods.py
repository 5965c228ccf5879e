"""What each method is, as an optimizer that owns the masks."""

from typing import Any

import optax

from experiments.gap_translation.runs import SETTINGS, Run, Setting
from sparsetrain import masks
from sparsetrain.models import Transformer

DENSE = "embedding/embedding"


def network(setting: Setting) -> Transformer:
    """The network of a setting; norms come first, as in the paper's code."""
    return Transformer(
        setting.symbols,
        setting.width,
        setting.feed,
        setting.heads,
        setting.layers,
        setting.dropout,
        pre_norm=True,
    )


def partitions(layers: int) -> masks.Partitions:
    """The encoder, and the two halves of the decoder: kappa = 3.

    Args:
      layers: of the encoder, and of the decoder.

    Example:
      >>> partitions(6).owners("decoder_3/cross/q/kernel")
      ['decoder_b']
    """
    first, second = (
        "|".join(map(str, numbers)) for numbers in (range(layers // 2), range(layers // 2, layers))
    )
    return masks.partitions(
        {
            "encoder": r"encoder_\d+/.*",
            "decoder_a": f"decoder_({first})/.*",
            "decoder_b": f"decoder_({second})/.*",
        },
        dense=DENSE,
    )


def adam(setting: Setting) -> optax.GradientTransformation:
    """Adam with the paper's code's settings; its learning rate rises, then falls with the inverse square root."""
    return optax.adam(
        inverse_square_root(setting.learning_rate, setting.warm_up), b1=0.9, b2=0.997, eps=1e-9
    )


def inverse_square_root(peak: float, warm_up: int) -> optax.Schedule:
    """A linear rise from zero, then the inverse square root of the update.

        peak * min(t / w, sqrt(w / t))

    Args:
      peak: learning rate at the end of the rise.
      warm_up: w, its updates.

    Returns:
      An optax schedule.

    Example:
      >>> rate = inverse_square_root(0.5, 100)
      >>> [float(rate(t)) for t in (0, 50, 100, 400)]
      [0.0, 0.25, 0.5, 0.25]
    """

    def fall(count: Any) -> Any:
        # A joined schedule counts from its boundary on.
        return peak * ((count + warm_up) / warm_up) ** -0.5

    return optax.join_schedules([optax.linear_schedule(0.0, peak, warm_up), fall], [warm_up])


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
    density = 1 - run.sparsity
    if run.method == "dense":
        return adam(setting)
    if run.method == "one-shot":
        # Dense for as long as grow-and-prune has phases, then its fine-tuning.
        at = setting.phases * setting.phase
        return masks.one_shot(adam(setting), density, at=at, fine_tune=adam(setting), dense=DENSE)
    if run.method == "C-GaP":
        return masks.grow_and_prune(
            adam(setting),
            density,
            partitions(setting.layers),
            steps_per_phase=setting.phase,
            phases=setting.phases,
            key=key,
        )
    raise ValueError(f"method={run.method!r} is unknown")
