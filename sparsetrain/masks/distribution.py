"""How a model's density is spread over its layers: uniform, Erdos-Renyi-Kernel, given, or one threshold for all."""

import math
from collections.abc import Mapping
from typing import Any

from sparsetrain import numerics, selection, tree
from sparsetrain.masks.structure import NOfM

NAMES = ("uniform", "erk", "global")


def uniform(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """The same density everywhere.

    Example:
      >>> uniform({"a": (2, 2), "b": (9, 9)}, 0.1)
      {'a': 0.1, 'b': 0.1}
    """
    numerics.check_density(density)
    return dict.fromkeys(shapes, density)


def erk(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Erdos-Renyi-Kernel: large layers are sparser, small ones denser.

        density_l = eps * sum(dims_l) / prod(dims_l),    eps so that the model's density is met;
        layers that would exceed 1 are dense, and eps is found again for the others

    Args:
      shapes: path -> kernel shape.
      density: of all these layers together, 0 < density <= 1.

    Returns:
      Path -> density in (0, 1].

    Raises:
      ValueError: density out of range.

    Differs from the paper:
      1. The zeros of a layer are floor((1 - density) N_l), as in the reference code.

    Reference: Evci et al., RigL (arXiv 1911.11134), its reference code.

    Example:
      >>> found = erk({"0": (784, 300), "1": (300, 100), "2": (100, 10)}, 0.2)
      >>> [round(1 - each, 6) for each in found.values()]
      [0.837759, 0.530638, 0.0]
    """
    numerics.check_density(density)
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    raw = {path: sum(shape) / sizes[path] for path, shape in shapes.items()}
    # 1 - .9 is a little below .1: without the rounding a whole zero may be lost.
    zeros = {path: math.floor(round((1 - density) * size, 9)) for path, size in sizes.items()}
    dense: set[str] = set()
    while len(dense) < len(shapes):
        others = [path for path in shapes if path not in dense]
        wanted = sum(sizes[path] - zeros[path] for path in others)
        wanted -= sum(zeros[path] for path in dense)
        epsilon = wanted / sum(raw[path] * sizes[path] for path in others)
        largest = max(raw[path] for path in others)
        if epsilon * largest <= 1:
            return {path: 1.0 if path in dense else epsilon * raw[path] for path in shapes}
        dense |= {path for path in others if raw[path] == largest}
    return dict.fromkeys(shapes, 1.0)


def densities(
    shapes: Mapping[str, tuple[int, ...]], density: float, distribution: Any
) -> dict[str, float]:
    """Density of every layer.

    Args:
      shapes: path -> shape of every prunable leaf.
      density: of the model.
      distribution: "uniform", "erk", "global" (uniform until the first pruning decides), or a mapping:
        expression that matches whole paths -> density. The first that matches counts; a leaf that none
        matches has the model's density.

    Returns:
      Path -> density in (0, 1].

    Raises:
      ValueError: an unknown name, a density out of range, an expression that does not compile or is the
        first to match for no leaf.

    Example:
      >>> densities({"a/kernel": (4, 4), "b/kernel": (4, 4)}, 0.5, {r"a/.*": 0.25})
      {'a/kernel': 0.25, 'b/kernel': 0.5}
    """
    if isinstance(distribution, Mapping):
        return _by_path(shapes, numerics.check_density(density), distribution)
    if distribution not in NAMES:
        raise ValueError(f"distribution={distribution!r}: choose one of {NAMES}, or give a mapping")
    return erk(shapes, density) if distribution == "erk" else uniform(shapes, density)


def _by_path(
    shapes: Mapping[str, tuple[int, ...]], density: float, given: Mapping[str, float]
) -> dict[str, float]:
    for pattern, value in given.items():
        numerics.check_density(value, f"distribution[{pattern!r}]")
    found = {path: tree.first_match(given, path) for path in shapes}
    used = {match[0] for match in found.values() if match is not None}
    if idle := [pattern for pattern in given if pattern not in used]:
        raise ValueError(
            f"distribution: {idle} matched no leaf (an expression must match the whole path, and the first match "
            f"counts). What can be masked: {', '.join(shapes)}"
        )
    return {path: density if match is None else float(match[1]) for path, match in found.items()}


def counts(
    shapes: Mapping[str, tuple[int, ...]], density: float, distribution: Any, structure: Any
) -> list[int]:
    """Units of every leaf that are kept, in order.

    Args:
      shapes, density, distribution: as for `densities`.
      structure: of the masks.

    Returns:
      [L] at least 1 each.

    Raises:
      ValueError: as `densities`; with n:m, groups that do not divide, or a density other than n / m.

    Example:
      >>> from sparsetrain.masks.structure import Unstructured, block
      >>> counts({"w": (4, 4)}, 0.5, "uniform", Unstructured()), counts({"w": (4, 4)}, 0.5, "uniform", block(1, 4))
      ([8], [2])
    """
    wanted = densities(shapes, density, distribution)
    if isinstance(structure, NOfM):
        if distribution != "uniform" or not math.isclose(density, structure.n / structure.m):
            raise ValueError(
                f"density={density}, distribution={distribution!r}: {structure.n}:{structure.m} masks "
                f"have density {structure.n / structure.m} in every layer, and no other"
            )
        for path, shape in shapes.items():
            if math.prod(shape[:-1]) % structure.m:
                raise ValueError(
                    f"structure: groups of {structure.m} do not divide the {math.prod(shape[:-1])} "
                    f"inputs of {path}; name it in dense="
                )
        return [math.prod(shape) * structure.n // structure.m for shape in shapes.values()]
    return [selection.count(structure.units(shape), wanted[path]) for path, shape in shapes.items()]
