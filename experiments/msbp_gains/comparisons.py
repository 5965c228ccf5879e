"""What is compared with what: two families fixed before any test accuracy was looked at, and explorations."""

from typing import NamedTuple

from experiments.msbp_gains.runs import DECAY, DENSE, DENSITIES, THREE, Method, msbp, sbp

# (name, extra dropout or weight decay) of the setups among which validation chooses the best regularised dense one.
REGULARISED = ("main", "dropout 0", "dropout .3", "weight decay .1")


class Side(NamedTuple):
    """One side of a comparison.

    Attributes:
      setup: key of `runs.SETUPS`, or "regularised": that of `REGULARISED` in which tuned dense validates best.
      method: what is propagated.
      at: learning rate: a, b, c or m as `runs.Block` has them.
    """

    setup: str
    method: Method
    at: str = "b"


class Comparison(NamedTuple):
    """Test accuracy of one side minus that of the other, paired by seed.

    Attributes:
      question: what it bears on.
      ours, theirs: sides.
    """

    question: str
    ours: Side
    theirs: Side


def pair(question: str, setup: str, ours: Method, theirs: Method, at: str = "b") -> Comparison:
    """A comparison within a setup, both at learning rates of the same kind."""
    return Comparison(question, Side(setup, ours, at), Side(setup, theirs, at))


def control(name: str, density: float) -> Method:
    """A control with the memory's usual decay, if it has one."""
    return Method(name, density, 0.0 if name == "noise" else DECAY)


# Does MSBP beat dense, and does it beat SBP?
GAINS = tuple(
    pair("", "main", msbp(density), other, at)
    for at in "abc"
    for others in ((DENSE,) * len(DENSITIES), tuple(map(sbp, DENSITIES)))
    for density, other in zip(DENSITIES, others, strict=True)
)
NOISE = "1 noise, regularisation"
STEP = "2 step size"
MOMENTUM = "3 memory as momentum"
REPAIR = "4 memory as repair"
BASELINE = "5 weak baseline"
CAUSES = (
    *(pair(NOISE, "main", control("noise", d), DENSE) for d in (0.04, 0.02)),
    *(pair(NOISE, "main", sbp(d), control("noise", d)) for d in (0.04, 0.02)),
    Comparison(NOISE, Side("regularised", DENSE), Side("main", DENSE)),
    Comparison(NOISE, Side("main", msbp(0.04)), Side("regularised", DENSE)),
    pair(NOISE, "dropout 0", msbp(0.04), DENSE),
    *(
        Comparison(STEP, Side("main", m), Side("main", m, "a"))
        for m in (DENSE, sbp(0.04), msbp(0.04))
    ),
    pair(STEP, "sgd", msbp(0.04), DENSE),
    pair(STEP, "sgd", msbp(0.04), sbp(0.04)),
    *(
        Comparison(MOMENTUM, Side(f"beta1 {beta}", DENSE), Side("main", DENSE))
        for beta in ("0", ".98")
    ),
    pair(MOMENTUM, "beta1 0", msbp(0.04), DENSE),
    pair(MOMENTUM, "beta1 0", msbp(0.04), sbp(0.04)),
    *(
        pair(REPAIR, "main", msbp(0.02), control(name, 0.02))
        for name in ("shuffled", "flipped", "gated", "random")
    ),
    *(pair(REPAIR, "main", control(name, 0.02), sbp(0.02)) for name in ("shuffled", "gated")),
    *(
        pair(BASELINE, "uniform", msbp(0.04), other, at)
        for at in "ab"
        for other in (DENSE, sbp(0.04))
    ),
    *(pair(BASELINE, "cosine", msbp(0.04), other) for other in (DENSE, sbp(0.04))),
)
EXPLORED = (
    *(
        pair("decay", "main", msbp(density, decay), sbp(density))
        for density in (0.02, 0.04)
        for decay in (0.3, DECAY, 0.95)
    ),
    *(pair("60 epochs", "long", msbp(0.04), other, "m") for other in (DENSE, sbp(0.04))),
    pair("60 epochs", "long", sbp(0.04), DENSE, "m"),
    *(pair("SBP and dense", "main", sbp(density), DENSE) for density in DENSITIES),
    pair("SBP and dense", "sgd", sbp(0.04), DENSE),
    pair("SBP and dense", "cosine", sbp(0.04), DENSE),
    pair("SBP and dense", "uniform", sbp(0.04), DENSE),
    pair("SBP and dense", "dropout 0", sbp(0.04), DENSE),
    *(
        Comparison(setup, Side(setup, method), Side("main", method))
        for setup in ("dropout 0", "beta1 0")
        for method in THREE
    ),
)
