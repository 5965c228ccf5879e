"""Parameter paths: '/'-joined, matched in full by regular expressions, the same in every lever."""

import re
from collections.abc import Callable, Iterable, Mapping
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

    The array inside an `nnx.Variable` has the name of the variable: `nnx.Optimizer` shows a
    transformation variables at `init` and plain arrays at `update`.

    Example:
      >>> join(("hidden", "kernel"))
      'hidden/kernel'
      >>> join((jax.tree_util.DictKey("kernel"), jax.tree_util.GetAttrKey("value")))
      'kernel'
    """
    keys = list(path)
    if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value"):
        keys.pop()
    return "/".join(key_name(key) for key in keys)


def nodes(kind: Any, tree: Any) -> list[Any]:
    """All nodes of a type, such as one transformation's states inside an optimizer's.

    Args:
      kind: a type, or a tuple of them.
      tree: any pytree.

    Returns:
      The nodes in JAX's order; none inside another.

    Example:
      >>> nodes(tuple, {"a": (1, 2), "b": [3, (4,)]})
      [(1, 2), (4,)]
    """
    found = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in found if isinstance(node, kind)]


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


def map_like(of_node: Callable[[str, Any], Any], state: Any, params: Any) -> Any:
    """Replaces every part of an optimizer's state that is shaped like the parameters.

    Works for every optimizer, since it knows none: a moment is any part of the state with the
    parameters' tree structure and shapes.

    Args:
      of_node: (path of the part inside the state, the part) -> a part like it.
      state: of any optax transformation.
      params: the parameters.

    Returns:
      The state with those parts replaced.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> params = {"w": jnp.ones(2)}
      >>> state = optax.trace(0.9).init(params)
      >>> map_like(lambda path, node: {"w": node["w"] + 1}, state, params).trace["w"].tolist()
      [1.0, 1.0]
    """
    structure: Any = jax.tree.structure(params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]

    def is_like(node: Any) -> bool:
        if jax.tree.structure(node) != structure:
            return False
        return [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(node)] == shapes

    def at(path: Any, node: Any) -> Any:
        return of_node(join(path), node) if is_like(node) else node

    return jax.tree_util.tree_map_with_path(at, state, is_leaf=is_like)


def map_leaves_like(of_leaf: Callable[[str, Any], Any], state: Any, params: Any) -> Any:
    """Replaces every array of an optimizer's state that belongs to one parameter.

    Finds more than `map_like`: in `optax.masked`, `optax.partition` and what is made of them (muon) a
    moment has gaps where the parameters have leaves, so that its structure is not theirs.

    Args:
      of_leaf: (path of the parameter, array of its shape) -> an array like it.
      state: of any optax transformation.
      params: the parameters.

    Returns:
      The state with those arrays replaced: their paths end with a parameter's, and their shapes are
      equal. Row and column sums, as Adafactor has them, are not among them.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> params = {"w": jnp.ones(2), "b": jnp.ones(2)}
      >>> state = optax.masked(optax.trace(0.9), {"w": True, "b": False}).init(params)
      >>> map_leaves_like(lambda path, leaf: leaf + 1, state, params).inner_state.trace["w"].tolist()
      [1.0, 1.0]
    """
    shapes = {
        tuple(join(path).split("/")): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }

    def at(path: Any, leaf: Any) -> Any:
        names = tuple(join(path).split("/"))
        for start in range(len(names)):
            if shapes.get(names[start:]) == getattr(leaf, "shape", None) is not None:
                return of_leaf("/".join(names[start:]), leaf)
        return leaf

    return jax.tree_util.tree_map_with_path(at, state)


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
