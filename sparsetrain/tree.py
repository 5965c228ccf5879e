"""Parameter paths: '/'-joined, matched in full by regular expressions, the same in every lever."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def key_name(key: Any) -> str:
    """Name of one step of a JAX key path, as a user would write it.

    Args:
      key: an entry of a path from `jax.tree_util.tree_flatten_with_path`.

    Returns:
      The dictionary key, attribute name or index as a string, without brackets or dots.

    Example:
      >>> import jax
      >>> path, _ = jax.tree_util.tree_leaves_with_path({"hidden": [1.0]})[0]
      >>> [key_name(key) for key in path]
      ['hidden', '0']
    """
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def join(path: Iterable[Any]) -> str:
    """'/'-joined form of a JAX key path or of a tuple of names.

    Example:
      >>> join(("hidden", "kernel"))
      'hidden/kernel'
    """
    return "/".join(key_name(key) for key in path)


def paths(tree: Any) -> list[str]:
    """'/'-joined path of every leaf, in JAX's leaf order.

    Args:
      tree: any pytree; `None` counts as no leaf.

    Returns:
      One string a leaf.

    Example:
      >>> paths({"output": {"kernel": 1.0, "bias": 2.0}})
      ['output/bias', 'output/kernel']
    """
    return [join(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def first_match(rules: Mapping[str, T], path: str) -> tuple[str, T] | None:
    """The first rule whose regular expression matches the whole path.

    Args:
      rules: regular expression -> anything, searched in their order.
      path: a '/'-joined path.

    Returns:
      (regular expression, its value), or None where nothing matches.

    Raises:
      ValueError: an expression does not compile; the message quotes it.

    Example:
      >>> first_match({r".*hidden.*/kernel": "sparse", r".*": "dense"}, "hidden_0/kernel")
      ('.*hidden.*/kernel', 'sparse')
      >>> first_match({r"hidden": "sparse"}, "hidden/kernel") is None     # full match only
      True
    """
    for pattern, value in rules.items():
        try:
            matched = re.fullmatch(pattern, path)
        except re.error as error:
            raise ValueError(
                f"rules: {pattern!r} is not a regular expression ({error}); "
                "write one such as r'.*hidden.*/kernel'"
            ) from error
        if matched:
            return pattern, value
    return None
