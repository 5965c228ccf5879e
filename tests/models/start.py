"""Variables of a model without running its initializers, which take as long to compile as all the rest."""

from typing import Any

import jax
import numpy as np

from sparsetrain import tree


def start(model: Any, *inputs: Any) -> Any:
    """Weights of variance 1 / fan-in, drawn by NumPy; zeros and ones where flax has them as well.

    Args:
      model: what has `init`: a linen module, or a sparsified one.
      *inputs: of its call.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)

    def leaf(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.startswith("memory") or path.endswith(("bias", "mean")):
            return np.zeros(shape, np.float32)
        if path.endswith(("scale", "var")):
            return np.ones(shape, np.float32)
        return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

    leaves, structure = jax.tree.flatten(shapes)
    values = [leaf(path, x.shape) for path, x in zip(tree.paths(shapes), leaves, strict=True)]
    return jax.tree.unflatten(structure, values)
