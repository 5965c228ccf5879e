"""Which rule a layer gets, and what the adapters know of a layer: shared by linen and nnx."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sparsetrain import tree
from sparsetrain.backward.dense import Dense
from sparsetrain.backward.rule import BackwardRule


class LayerShape(NamedTuple):
    """One call of a layer that a rule can match.

    Attributes:
      path: '/'-joined path of the kernel.
      kind: "dense" or "conv".
      rows: rows of the call; for a convolution, examples.
      inputs: I, inputs of one output entry (for a convolution: filter height x width x channels).
      output_shape: shape of the outputs of one row; for a convolution, the channels.
      positions: output positions of a convolution, 1 for a product.
      rule: the rule that acts on it, or None for plain backpropagation.
      groups: feature groups of a convolution.
    """

    path: str
    kind: str
    rows: int
    inputs: int
    output_shape: tuple[int, ...]
    positions: int
    rule: BackwardRule | None
    groups: int = 1

    @property
    def outputs(self) -> int:
        """O, outputs of one row."""
        return math.prod(self.output_shape)


def acting_rule(rules: Mapping[str, BackwardRule], path: str) -> BackwardRule | None:
    """The rule for a path, told which layer it is for; None where plain backpropagation is meant."""
    match = tree.first_match(rules, path)
    if match is None or isinstance(match[1], Dense):
        return None
    return match[1].at(path)


def layer_rows(rows: int | Mapping[str, int] | None, path: str) -> int | None:
    """Rows per optimizer step for a path, or None for those of the call."""
    if not isinstance(rows, Mapping):
        return rows
    match = tree.first_match(rows, path)
    return None if match is None else match[1]


def check_rules(rules: Mapping[str, BackwardRule], rows: int | Mapping[str, int] | None) -> None:
    """Refuses rules and rows that cannot be meant, before any model is run."""
    if not rules:
        raise ValueError('rules={}: give at least one, such as {r".*hidden.*/kernel": top_k(0.04)}')
    for pattern, rule in rules.items():
        tree.first_match({pattern: rule}, "")
        if not isinstance(rule, BackwardRule):
            raise ValueError(
                f"rules[{pattern!r}]={rule!r}: not a rule; make one with backward.top_k(density=0.04) or the like"
            )
    for number in rows.values() if isinstance(rows, Mapping) else [rows]:
        if number is not None and number < 1:
            raise ValueError(f"rows={rows}: must be at least 1")


def check_matches(rules: Mapping[str, BackwardRule], paths: Iterable[str]) -> None:
    """Refuses rules of which one is the first match of no layer.

    Args:
      rules: regular expression -> rule.
      paths: kernels of all layers that a rule can act on.

    Raises:
      ValueError: names the idle rules and lists the layers.
    """
    paths = list(dict.fromkeys(paths))
    matches = (tree.first_match(rules, path) for path in paths)
    matched = {match[0] for match in matches if match is not None}
    idle = [pattern for pattern in rules if pattern not in matched]
    if idle:
        raise ValueError(
            f"rules: {idle} matched no layer (an expression must match the whole path, and the first match counts). "
            f"The layers are: {', '.join(paths) or 'none that a rule can act on'}"
        )
