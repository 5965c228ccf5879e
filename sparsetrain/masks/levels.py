"""The largest entries of a tree at densities that are known beforehand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.masks import distribution as distributions
from sparsetrain.masks.structure import NOfM, keep_largest, keep_largest_of_all


@dataclasses.dataclass(frozen=True)
class Levels:
    """The largest entries at each of several densities.

    Attributes:
      densities: fractions that are kept, one a level.
      distribution: over leaves, see `iterative`.
      structure: of what is kept together.
    """

    densities: tuple[float, ...]
    distribution: Any
    structure: Any

    def check(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raises ValueError where leaves of these shapes cannot be so dense."""
        for density in self.densities:
            distributions.counts(shapes, density, self.distribution, self.structure)

    def largest(self, values: dict[str, jax.Array], level: int | jax.Array) -> dict[str, jax.Array]:
        """Where the largest entries are.

        Args:
          values: path -> array.
          level: index into `densities`, int or int32 scalar.

        Returns:
          Path -> bool.

        Example:
          >>> from sparsetrain.masks.structure import Unstructured
          >>> levels = Levels((0.75, 0.5), "uniform", Unstructured())
          >>> levels.largest({"w": jnp.array([[1.0, -3.0, 2.0, 0.5]])}, 1)["w"].tolist()
          [[False, True, True, False]]
        """
        if isinstance(self.structure, NOfM):  # Their counts are their own.
            return keep_largest(values, self.structure, ())
        shapes = {path: leaf.shape for path, leaf in values.items()}
        if self.distribution == "global":
            size = sum(self.structure.units(shape) for shape in shapes.values())
            kept = [max(1, round(density * size)) for density in self.densities]
            return keep_largest_of_all(values, self.structure, jnp.array(kept, jnp.int32)[level])
        counts = [
            distributions.counts(shapes, density, self.distribution, self.structure)
            for density in self.densities
        ]
        return keep_largest(values, self.structure, jnp.array(counts, jnp.int32)[level])
