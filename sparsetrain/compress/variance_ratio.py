"""Why layers' thresholds differ: how gradients' variance changes from layer to layer, and densities that follow it."""

import math
from collections.abc import Sequence

from sparsetrain import numerics

KINDS = ("corrected", "printed")


def variance_ratio(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    previous_kernel: int = 1,
    *,
    kind: str = "corrected",
) -> float:
    """Variance of a layer's weight gradient over that of the layer before, at He initialisation.

        "corrected":  c^l / d^l
        "printed":    k^l k^l c^l / (k^{l-1} k^{l-1} d^l)        Eq. (8); Eq. (9) is k = 1

    Args:
      inputs: c^l, input channels of the layer, or features of a fully connected one.
      outputs: d^l, its output channels or features.
      kernel: k^l, side of its kernel; 1 for a fully connected layer.
      previous_kernel: k^{l-1}, side of the kernel of the layer before.
      kind: "corrected", or "printed" for the paper's own formula.

    Returns:
      Var(df/dW^l) / Var(df/dW^{l-1}), for ReLU layers in a plain chain, their biases zero. Residual
      branches, normalisation and pooling are outside both formulas.

    Raises:
      ValueError: a number below 1, or an unknown kind.

    Differs from the paper:
      1. Its Eq. (13) multiplies by the kernel's area where the number of output positions belongs.
         With that the areas cancel, and so do strides: measured ratios .506 / 3.03 / .481 for
         kernels 3, 5, 1, 3 and c/d = .5 / 2.67 / .5, where Eq. (8) gives 1.39 / .107 / 4.5. Both
         agree where all kernels are equal.

    Reference: the paper of DLS, Eq. (8), (9), (12) to (15).

    Example:
      >>> variance_ratio(64, 24, kernel=1, previous_kernel=5)
      2.6666666666666665
      >>> variance_ratio(32, 64, kernel=5, previous_kernel=3, kind="printed")
      1.3888888888888888
    """
    given = {
        "inputs": inputs,
        "outputs": outputs,
        "kernel": kernel,
        "previous_kernel": previous_kernel,
    }
    for name, number in given.items():
        if number < 1:
            raise ValueError(f"{name}={number}: must be at least 1")
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {KINDS}")
    if kind == "corrected":
        return inputs / outputs
    return (kernel**2 * inputs) / (previous_kernel**2 * outputs)


def gradient_scales(shapes: Sequence[Sequence[int]], *, kind: str = "corrected") -> list[float]:
    """Standard deviations of the weight gradients of a plain chain of layers, the first one's being 1.

        sigma_1 = 1,    sigma_l^2 = sigma_{l-1}^2 * variance_ratio(l)

    Args:
      shapes: of the kernels from input to output: (inputs, outputs), or (side, side, inputs,
        outputs).
      kind: see `variance_ratio`.

    Returns:
      sigma_l, for `initial_densities`.

    Raises:
      ValueError: a shape that is neither, or an unknown kind.

    Example:
      >>> gradient_scales([(784, 400), (400, 800), (800, 50)])
      [1.0, 0.7071067811865476, 2.8284271247461903]
    """
    scales: list[float] = []
    previous = 1
    for shape in shapes:
        if len(shape) not in (2, 4):
            raise ValueError(
                f"shape {tuple(shape)}: give kernels of rank 2 or 4, (inputs, outputs) at the end"
            )
        kernel = math.isqrt(math.prod(shape[:-2]))
        ratio = variance_ratio(shape[-2], shape[-1], kernel, previous, kind=kind)
        scales.append(scales[-1] * math.sqrt(ratio) if scales else 1.0)
        previous = kernel
    return scales


def initial_densities(density: float, sizes: Sequence[int], scales: Sequence[float]) -> list[float]:
    """Densities at which layers of known scales share one threshold, if their entries are Gaussian.

        find t with  sum_l N_l a_l = density * sum_l N_l,    a_l = 2 (1 - Phi(t / sigma_l))

    Args:
      density: fraction of all entries, 0 < density <= 1.
      sizes: N_l, entries of each layer.
      scales: sigma_l > 0, in any unit; such as `gradient_scales` of the kernels. Where a tree has
        other leaves, such as biases, give a scale for each of them too.

    Returns:
      a_l, in the order given: what `layerwise` takes as `initial`.

    Raises:
      ValueError: density out of range, a scale that is not positive, or unequal lengths.

    Differs from the paper:
      1. Eq. (8) and (9) only explain there why thresholds differ; to start from them is our idea.

    Example:
      >>> [round(a, 4) for a in initial_densities(0.01, [1000, 1000], [1.0, 0.5])]
      [0.02, 0.0]
    """
    density = numerics.check_density(density)
    if len(sizes) != len(scales) or not sizes:
        raise ValueError(
            f"sizes and scales have {len(sizes)} and {len(scales)} numbers: give one each for every layer"
        )
    if min(scales) <= 0 or not math.isfinite(sum(scales)):
        raise ValueError(f"scales={list(scales)}: must be positive and finite")

    def shares(threshold: float) -> list[float]:
        return [math.erfc(threshold / (scale * math.sqrt(2.0))) for scale in scales]

    def kept(threshold: float) -> float:
        return sum(n * a for n, a in zip(sizes, shares(threshold), strict=True))

    wanted = density * sum(sizes)
    # No float is left beyond 40 standard deviations; 200 halvings reach the last bit.
    lower, upper = 0.0, 40.0 * max(scales)
    for _ in range(200):
        middle = 0.5 * (lower + upper)
        lower, upper = (middle, upper) if kept(middle) >= wanted else (lower, middle)
    return shares(lower)
