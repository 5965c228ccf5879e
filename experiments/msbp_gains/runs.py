"""The grid: setups, methods in them, how learning rates are tuned, and at which of them methods are compared."""

import dataclasses
from collections.abc import Callable, Iterator

# The paper's memory ratio on MNIST, and the densities; k = 2, 4, 10, 20 of 100 units.
DECAY = 0.8
DENSITIES = (0.02, 0.04, 0.1, 0.2)
PAPER_RATE = 1e-3
RATES = {
    "adam": (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
    "sgd": (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
}
# As many lanes as seeds below, so that both share a compiled program; no seed is in both.
TUNING_SEEDS = (1000, 1001, 1002)
SEEDS = tuple(range(21))
# After which test accuracy is recorded.
SHOWN = (1, 2, 5, 10, 20, 40, 60)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a setup fixes for all its methods.

    Attributes:
      optimizer: "adam" or "sgd".
      beta1: of Adam; momentum of SGD.
      weight_decay: decoupled, of Adam.
      dropout: share of hidden units.
      init: "he" or "uniform", that of meProp's code.
      schedule: of the learning rate, "constant" or "cosine" down to zero.
      epochs: passes over the subset.
      images: size of the subset of the training images that a seed draws.
      hidden: outputs of each hidden layer.
    """

    optimizer: str = "adam"
    beta1: float = 0.9
    weight_decay: float = 0.0
    dropout: float = 0.1
    init: str = "he"
    schedule: str = "constant"
    epochs: int = 20
    images: int = 5_000
    hidden: tuple[int, ...] = (100, 100)


# The paper's settings are main's: Adam, dropout .1, batch 32. All others change one thing.
SETUPS: dict[str, Settings] = {
    "main": Settings(),
    "uniform": Settings(init="uniform"),
    "dropout 0": Settings(dropout=0.0),
    "dropout .3": Settings(dropout=0.3),
    "weight decay .1": Settings(weight_decay=0.1),
    "cosine": Settings(schedule="cosine"),
    "beta1 0": Settings(beta1=0.0),
    "beta1 .98": Settings(beta1=0.98),
    "sgd": Settings(optimizer="sgd"),
    "long": Settings(epochs=60),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """What is propagated.

    Attributes:
      name: "dense", "sbp", "msbp" or a control of `rules.CONTROLS`.
      density: fraction of each row's output gradient that is kept; 1 for dense.
      decay: of the memory.
    """

    name: str
    density: float = 1.0
    decay: float = 0.0

    @property
    def label(self) -> str:
        """Name in tables.

        Example:
          >>> Method("msbp", 0.04, 0.8).label, Method("dense").label
          ('MSBP .04, decay .8', 'dense')
        """
        name = self.name.upper() if self.name in ("sbp", "msbp") else self.name
        if self.name == "dense":
            return name
        remembers = f", decay {self.decay:g}" if self.decay else ""
        return f"{name} {self.density:g}{remembers}".replace("0.", ".")


@dataclasses.dataclass(frozen=True)
class Run:
    """One method in one setup, at some learning rates, for some seeds: all lanes of a compiled program.

    Attributes:
      stage: "tuning", which never sees the test images, or "evaluation".
      setup: key of `SETUPS`.
      method: what is propagated.
      rates: learning rates.
      seeds: each fixes subset, initialisation, batches and dropout, the same for every method.
    """

    stage: str
    setup: str
    method: Method
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def settings(self) -> Settings:
        """Of the setup."""
        return SETUPS[self.setup]

    @property
    def static(self) -> "Run":
        """What a compiled program depends on: not the learning rates, and not the seeds."""
        return dataclasses.replace(self, stage="", rates=(), seeds=())

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("evaluation", "main", Method("msbp", 0.04, 0.8), (0.002,), (0, 1)).name
          'evaluation_main_msbp_density0.04_decay0.8_rate0.002_seeds0-1'
        """
        parts = [self.stage, self.setup.replace(" ", ""), self.method.name]
        if self.method.density < 1:
            parts += [f"density{self.method.density:g}", f"decay{self.method.decay:g}"]
        if len(self.rates) == 1:
            parts.append(f"rate{self.rates[0]:g}")
        return "_".join([*parts, f"seeds{self.seeds[0]}-{self.seeds[-1]}"])


@dataclasses.dataclass(frozen=True)
class Block:
    """Methods of one setup that are tuned and then compared.

    Attributes:
      setup: key of `SETUPS`.
      methods: in it.
      at: learning rates of the evaluation: a the paper's, b the method's own tuned one, c that of dense in this setup,
        m that of the method in the setup main, so that nothing is tuned.
    """

    setup: str
    methods: tuple[Method, ...]
    at: str = "b"

    def tuning(self) -> Iterator[Run]:
        """Runs that choose learning rates."""
        if self.at == "m":
            return
        rates = RATES[SETUPS[self.setup].optimizer]
        for method in self.methods:
            yield Run("tuning", self.setup, method, rates, TUNING_SEEDS)

    def evaluation(self, tuned: Callable[[str, Method], float]) -> Iterator[Run]:
        """Runs that are reported, each once.

        Args:
          tuned: (setup, method) -> learning rate.
        """
        for method in self.methods:
            found = {
                "a": lambda method: PAPER_RATE,
                "b": lambda method: tuned(self.setup, method),
                "c": lambda method: tuned(self.setup, DENSE),
                "m": lambda method: tuned("main", method),
            }
            for rate in dict.fromkeys(found[letter](method) for letter in self.at):
                yield Run("evaluation", self.setup, method, (rate,), SEEDS)


DENSE = Method("dense")


def sbp(density: float) -> Method:
    """Sparse backpropagation."""
    return Method("sbp", density)


def msbp(density: float, decay: float = DECAY) -> Method:
    """Memorized sparse backpropagation."""
    return Method("msbp", density, decay)


THREE = (DENSE, sbp(0.04), msbp(0.04))
# In the order of their weight for the question, so that a grid cut short has the most of it.
BLOCKS = (
    Block("main", (DENSE, *map(sbp, DENSITIES), *map(msbp, DENSITIES)), "abc"),
    Block("main", (Method("noise", 0.02),)),
    Block("main", tuple(Method(name, 0.02, DECAY) for name in ("shuffled", "gated"))),
    Block("beta1 .98", (DENSE,)),
    Block("dropout .3", (DENSE,)),
    Block("dropout 0", (DENSE,)),
    Block("sgd", THREE),
    Block("uniform", THREE, "ab"),
    Block("weight decay .1", (DENSE,)),
    Block("main", (Method("noise", 0.04),)),
    Block("main", tuple(Method(name, 0.02, DECAY) for name in ("flipped", "random"))),
    Block("dropout 0", (sbp(0.04), msbp(0.04))),
    Block("beta1 0", THREE),
    Block("cosine", THREE),
    Block("main", tuple(msbp(density, decay) for density in (0.02, 0.04) for decay in (0.3, 0.95))),
    Block("long", THREE, "m"),
)
