"""Other compressors, or other densities, for other layers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from sparsetrain import tree
from sparsetrain.compress.compressor import Aggregate, Compressor, aggregated, moved_among


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Groups:
    """Payloads of several compressors.

    Attributes:
      payloads: of each compressor, as it returned them for its leaves.
      places: of each group's leaves among all of the tree.
    """

    payloads: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class ByPath:
    """See `by_path`."""

    rules: tuple[tuple[str, Compressor], ...]

    @property
    def shards(self) -> Any:
        """Mesh axis over which every tensor lies in pieces; the same for all."""
        return getattr(self.rules[0][1], "shards", None)

    def init(self, params: Any) -> tuple[Any, ...]:
        groups, _ = self._split(params)
        idle = [rule for (rule, _), group in zip(self.rules, groups, strict=True) if not group]
        if idle:
            raise ValueError(
                f"rules: {idle} matched no leaf (an expression must match the whole path, and the first match "
                f"counts). The leaves are: {', '.join(tree.paths(params))}"
            )
        return tuple(
            compressor.init(group)
            for (_, compressor), group in zip(self.rules, groups, strict=True)
        )

    def compress(self, u: Any, state: tuple[Any, ...]) -> tuple[Groups, tuple[Any, ...]]:
        groups, places = self._split(u)
        done = [
            compressor.compress(group, held)
            for (_, compressor), group, held in zip(self.rules, groups, state, strict=True)
        ]
        return Groups(tuple(each for each, _ in done), places), tuple(held for _, held in done)

    def decompress(self, payloads: Groups) -> list[jax.Array]:
        """The leaves in order: payloads do not know the tree's keys."""
        return self._joined(
            payloads.places,
            [
                compressor.decompress(group)
                for (_, compressor), group in zip(self.rules, payloads.payloads, strict=True)
            ],
        )

    def aggregate(
        self, payloads: Groups, u: Any, state: tuple[Any, ...], axis_name: Any
    ) -> Aggregate:
        return self._of_each(
            u,
            payloads,
            state,
            lambda each, sent, group, held: each.aggregate(sent, group, held, axis_name),
        )

    def aggregate_speakers(
        self, payloads: Groups, u: Any, state: tuple[Any, ...], axis_name: Any, speaks: jax.Array
    ) -> Aggregate:
        return self._of_each(
            u,
            payloads,
            state,
            lambda each, sent, group, held: aggregated(each, sent, group, held, axis_name, speaks),
        )

    def moved_bytes(self, payloads: Groups, workers: int) -> int:
        """Bytes that leave a worker in the collectives of all."""
        return sum(
            moved_among(compressor, group, workers)
            for (_, compressor), group in zip(self.rules, payloads.payloads, strict=True)
        )

    def _of_each(
        self, u: Any, payloads: Groups, state: tuple[Any, ...], combine: Callable[..., Aggregate]
    ) -> Aggregate:
        groups, places = self._split(u)
        done = [
            combine(compressor, sent, group, held)
            for (_, compressor), sent, group, held in zip(
                self.rules, payloads.payloads, groups, state, strict=True
            )
        ]
        structure = jax.tree.structure(u)
        mean, accepted = (
            jax.tree.unflatten(
                structure, self._joined(places, [getattr(each, name) for each in done])
            )
            for name in ("mean", "accepted")
        )
        return Aggregate(mean, accepted, tuple(each.state for each in done))

    def _split(self, values: Any) -> tuple[list[dict[str, Any]], tuple[tuple[int, ...], ...]]:
        """Of each rule its leaves by path, and their places in the tree."""
        rules = dict(self.rules)
        groups: dict[str, dict[str, Any]] = {pattern: {} for pattern in rules}
        place = {}
        for number, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(values)):
            name = tree.join(path)
            match = tree.first_match(rules, name)
            if match is None:
                raise ValueError(
                    f"rules: none matches the leaf {name!r}; end with one for all others, such as "
                    "r'.*': compress.dense()"
                )
            groups[match[0]][name] = leaf
            place[name] = number
        # As JAX lists a dictionary: by its sorted keys.
        places = tuple(tuple(place[name] for name in sorted(group)) for group in groups.values())
        return list(groups.values()), places

    @staticmethod
    def _joined(places: tuple[tuple[int, ...], ...], groups: list[Any]) -> list[Any]:
        """The leaves of all groups in the order of the tree."""
        found = {
            number: leaf
            for group, numbers in zip(groups, places, strict=True)
            for number, leaf in zip(numbers, jax.tree.leaves(group), strict=True)
        }
        return [found[number] for number in sorted(found)]


def by_path(rules: Mapping[str, Compressor]) -> ByPath:
    """A compressor for every layer: other densities, or other methods, by parameter path.

    Args:
      rules: regular expression -> compressor; an expression matches the whole '/'-joined path of a leaf, and
        the first that does counts. A compressor that looks at the whole tree (`global_top_k`, `layerwise`)
        looks at its own leaves.

    Returns:
      A compressor; what it needs of a memory is what its parts need.

    Raises:
      ValueError: no rule, parts that are sharded over different axes; at `init`, a leaf without a rule or a
        rule without a leaf.
      TypeError: a value that is no compressor.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain import compress
      >>> compressor = compress.by_path({r".*/bias": compress.dense(), r".*": compress.top_k(density=0.5)})
      >>> u = {"layer": {"bias": jnp.array([1.0, 2.0]), "kernel": jnp.array([3.0, 4.0])}}
      >>> payloads, _ = compressor.compress(u, compressor.init(u))
      >>> [leaf.tolist() for leaf in compressor.decompress(payloads)]
      [[1.0, 2.0], [0.0, 4.0]]
    """
    if not rules:
        raise ValueError("rules: give at least one, such as {r'.*': compress.top_k(density=0.01)}")
    for pattern, compressor in rules.items():
        tree.first_match({pattern: compressor}, "")
        if not isinstance(compressor, Compressor):
            raise TypeError(
                f"rules[{pattern!r}]={compressor!r}: give one of sparsetrain.compress, such as top_k(density=0.01)"
            )
    axes = {getattr(compressor, "shards", None) for compressor in rules.values()}
    if len(axes) > 1:
        raise ValueError(f"rules: shards={sorted(map(str, axes))}; give all compressors the same")
    return ByPath(tuple(rules.items()))
