"""Partitions of a model's weights: which of them are grown and pruned together."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import tree


@dataclasses.dataclass(frozen=True)
class Partitions:
    """An ordered list of (name, regular expression on paths), and what is never masked.

    Attributes:
      rules: name -> expression, in order.
      dense: expression of leaves that are never masked; None for no more than those that cannot be.
    """

    rules: tuple[tuple[str, str], ...]
    dense: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(name for name, _ in self.rules)

    def owners(self, path: str) -> list[str]:
        """Every partition that claims a path."""
        return [name for name, rule in self.rules if re.fullmatch(rule, path)]

    def assign(self, params: Any) -> dict[str, str]:
        """Path of every prunable leaf -> name of its one partition.

        Raises:
          ValueError: a prunable leaf in several partitions or in none, or a partition without any;
            the message lists them.
        """
        found = {path: self.owners(path) for path in prunable(params, self.dense)}
        several = {path: names for path, names in found.items() if len(names) > 1}
        missing = [path for path, names in found.items() if not names]
        if several or missing:
            overlap = "; ".join(f"{path} in {', '.join(names)}" for path, names in several.items())
            raise ValueError(
                "partitions: every weight belongs to exactly one."
                + (f" In several: {overlap}." if several else "")
                + (f" In none: {', '.join(missing)}." if missing else "")
                + " Expressions match whole '/'-joined paths; name what stays dense in dense="
            )
        used = {names[0] for names in found.values()}
        if empty := [name for name in self.names if name not in used]:
            raise ValueError(
                f"partitions: {', '.join(empty)} hold no weight; there are {', '.join(found)}"
            )
        return {path: names[0] for path, names in found.items()}


def partitions(rules: Mapping[str, str], *, dense: str | None = None) -> Partitions:
    """Names parts of a model by regular expressions on '/'-joined parameter paths.

    Args:
      rules: name -> expression that matches whole paths, in the order in which the parts are grown.
      dense: expression of weights that are never masked, such as a first convolution.

    Returns:
      Partitions for `grow_and_prune`. They are held to a model at `init`: every prunable leaf, a
      floating array of two or more axes that `dense` does not match, belongs to exactly one.

    Raises:
      ValueError: no rule, or an expression that does not compile.

    Example:
      >>> parts = partitions({"first": r"a/.*", "rest": r"[bc]/.*"}, dense=r"c/kernel")
      >>> weight = jnp.zeros((2, 2))
      >>> parts.assign({name: {"kernel": weight, "bias": weight[0]} for name in "abc"})
      {'a/kernel': 'first', 'b/kernel': 'rest'}
    """
    if not rules:
        raise ValueError("rules: give at least one partition, such as {'all': '.*'}")
    for name, rule in [*rules.items(), ("dense", dense or "")]:
        try:
            re.compile(rule)
        except re.error as error:
            raise ValueError(
                f"partition {name!r}: {rule!r} is not a regular expression ({error})"
            ) from error
    return Partitions(tuple(rules.items()), dense)


def leaves_by_path(params: Any) -> dict[str, jax.Array]:
    """'/'-joined path -> leaf, in JAX's leaf order.

    Example:
      >>> list(leaves_by_path({"b": 1.0, "a": {"c": 2.0}}))
      ['a/c', 'b']
    """
    pairs = jax.tree_util.tree_leaves_with_path(params)
    return {tree.join(path): leaf for path, leaf in pairs}


def prunable(params: Any, dense: str | None = None) -> list[str]:
    """Paths of the leaves that may be masked: floating, of two or more axes, not empty, not dense.

    Args:
      params: tree of parameters.
      dense: expression of paths that are left out.

    Returns:
      '/'-joined paths, in JAX's leaf order.

    Raises:
      ValueError: nothing is left, or `dense` matches nothing.

    Example:
      >>> prunable({"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)})
      ['kernel']
    """
    leaves = leaves_by_path(params)
    if dense is not None and not any(re.fullmatch(dense, path) for path in leaves):
        raise ValueError(f"dense={dense!r} matches none of {', '.join(leaves)}")
    found = [
        path
        for path, leaf in leaves.items()
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        and leaf.ndim >= 2
        and leaf.size
        and not (dense is not None and re.fullmatch(dense, path))
    ]
    if not found:
        raise ValueError(f"no leaf can be masked among {', '.join(leaves)}: weights have two axes")
    return found
