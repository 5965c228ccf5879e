import jax
import numpy as np
import optax
import pytest

from sparsetrain import masks

OWNERS = {f"{name}/kernel": name for name in "abcd"}


def grow_and_prune(**options):
    settings = {"steps_per_phase": 2, "phases": 4, "key": jax.random.key(0)} | options
    parts = masks.partitions({name: rf"{name}/.*" for name in "abcd"})
    return masks.grow_and_prune(optax.sgd(0.1), 0.25, parts, **settings)


def test_the_table_of_the_paper():
    """kappa = 4: (grow, prune) = (0, -), (1, 0), (2, 1), (3, 2), (0, 3), and the last one at the end."""
    table = masks.phases(OWNERS, tuple("abcd"), 5, 10)
    pruned, grown = table.changes(list(OWNERS))
    assert [np.flatnonzero(row).tolist() for row in grown] == [[0], [1], [2], [3], [0], []]
    assert [np.flatnonzero(row).tolist() for row in pruned] == [[], [0], [1], [2], [3], [0]]
    assert table.updates == 50 and table.labels == ("a", "b", "c", "d", "a")


def test_fewer_phases_than_partitions_leave_some_sparse_throughout():
    pruned, grown = masks.phases(OWNERS, tuple("abcd"), 2, 10).changes(list(OWNERS))
    assert grown.any(0).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(grown.any(0), pruned.any(0))


def test_whoever_is_grown_is_pruned_at_the_next_boundary():
    for order in ("cyclic", "random", "parallel"):
        table = masks.phases(OWNERS, tuple("abcd"), 7, 3, order=order, seed=1)
        pruned, grown = table.changes(list(OWNERS))
        np.testing.assert_array_equal(pruned[1:], grown[:-1])
        assert not pruned[0].any() and not grown[-1].any()


def test_what_does_not_fit():
    for options, message in (
        ({"phases": 0}, "phases=0, steps_per_phase=2: must both be at least 1"),
        ({"phases": -1}, "phases=-1"),
        ({"steps_per_phase": 0}, "phases=4, steps_per_phase=0"),
        ({"order": "backwards"}, "order='backwards': choose one of"),
        ({"scope": "layer"}, "scope='layer': choose one of"),
        ({"order": "parallel"}, "name the axis"),
        ({"distribution": "global", "structure": masks.n_m(1, 4)}, "same density in every"),
    ):
        with pytest.raises(ValueError, match=message):
            grow_and_prune(**options)
    with pytest.raises(TypeError, match=r"give masks\.partitions"):
        masks.grow_and_prune(
            optax.sgd(0.1), 0.1, {"a": ".*"}, steps_per_phase=1, phases=1, key=jax.random.key(0)
        )
