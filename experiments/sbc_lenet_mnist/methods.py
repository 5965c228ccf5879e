"""The methods of the comparison: each makes an optimizer for one of several clients, and knows its factor in theory."""

import dataclasses
import math
from collections.abc import Callable

import optax

from experiments.sbc_lenet_mnist.tally import Tally
from sparsetrain import compress
from sparsetrain.compress.sparse_binary import PRESETS
from sparsetrain.payload import golomb_parameter

AXIS = "clients"
# With momentum or without -> the local optimizer. Without is for the one method that brings its own.
Inner = Callable[[bool], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Method:
    """How clients combine.

    Attributes:
      kind: "dense", "dropping", "dgc", "fedavg" or "sbc".
      every: local steps between two messages.
      density: share of the entries that a message carries.
    """

    kind: str
    every: int = 1
    density: float = 1.0

    @property
    def label(self) -> str:
        """Name in tables and plots.

        Example:
          >>> Method("fedavg", 10).label, METHODS["sbc_2"].label
          ('FedAvg, n = 10', 'SBC(2)')
        """
        names = {
            "dense": "dense",
            "dropping": "gradient dropping",
            "dgc": "DGC",
            "fedavg": f"FedAvg, n = {self.every}",
        }
        if self.kind in names:
            return names[self.kind]
        presets = [number for number, pair in PRESETS.items() if pair == (self.every, self.density)]
        text = f"{self.density:g}".replace("0.", ".")
        return f"SBC({presets[0]})" if presets else f"SBC, n = {self.every}, density {text}"

    def optimizer(self, inner: Inner) -> optax.GradientTransformation:
        """The optimizer of one client; runs under `vmap` with the axis `AXIS`."""
        if self.kind == "fedavg":
            return compress.local_steps(
                inner(True),
                self.every,
                Tally(compress.dense()),
                memory=compress.no_memory(),
                axis_name=AXIS,
            )
        if self.kind == "sbc":
            compressor = Tally(compress.sparse_binary(self.density))
            return compress.local_steps(
                inner(True), self.every, compressor, momentum_masking="first", axis_name=AXIS
            )
        if self.kind == "dense":
            return optax.chain(
                compress.exchange(Tally(compress.dense()), compress.no_memory(), axis_name=AXIS),
                inner(True),
            )
        corrects = self.kind == "dgc"
        memory = compress.momentum_correction(0.9) if corrects else compress.residual()
        exchange = compress.exchange(Tally(compress.top_k(self.density)), memory, axis_name=AXIS)
        return optax.chain(exchange, inner(not corrects))

    def factor(self) -> float:
        """Compression in theory, for tensors so large that nothing but the entries counts.

        Values take 32 bits, positions the mean length of their code; the shared value of SBC none.

        Example:
          >>> [round(METHODS[name].factor()) for name in ("dense", "fedavg_100", "sbc_1", "sbc_2", "sbc_3")]
          [1, 100, 2784, 3947, 39468]
        """
        if self.density == 1.0:
            return float(self.every)
        value = 0 if self.kind == "sbc" else 32
        return self.every * 32 / (self.density * (mean_position_bits(self.density) + value))


def mean_position_bits(density: float) -> float:
    """Bits of one position where entries are taken at random with this probability.

    Example:
      >>> round(mean_position_bits(0.01), 3)
      8.108
    """
    b = golomb_parameter(density)
    return b + 1 / -math.expm1(2**b * math.log1p(-density))


METHODS = {
    "dense": Method("dense"),
    "dropping": Method("dropping", density=0.001),
    "dgc": Method("dgc", density=0.001),
    "fedavg_10": Method("fedavg", 10),
    "fedavg_100": Method("fedavg", 100),
    **{f"sbc_{number}": Method("sbc", *pair) for number, pair in PRESETS.items()},
}
