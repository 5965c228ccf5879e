"""Shared columns: scores, blocks and unions against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection


def test_scores() -> None:
    values = jnp.array([[1.0, -3.0], [2.0, 0.5]])
    np.testing.assert_allclose(selection.column_scores(values), [3.0, 3.5])
    np.testing.assert_allclose(selection.column_scores(values, "l2"), [5.0, 9.25])


def test_l1_loses_mass_that_l2_keeps() -> None:
    # methods.md 2.5: the columns (1, 1, 1, 1) and (3.9, 0, 0, 0), one of two kept.
    values = jnp.array([[1.0, 3.9], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    kept = {}
    for score in ("l1", "l2"):
        column = selection.top_columns(selection.column_scores(values, score), 1)[0]
        kept[score] = float((values[:, column] ** 2).sum() / (values**2).sum())
    assert kept["l1"] == pytest.approx(0.208, abs=5e-4)
    assert kept["l2"] >= 0.5


def test_block_columns() -> None:
    scores = jnp.array([0.0, 9.0, 3.0, 3.0, 5.0, 5.5])
    assert selection.top_columns(scores, 2, block=2).tolist() == [4, 5, 0, 1]


def test_union_of_rows() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([rng.choice(50, 3, replace=False) for _ in range(4)]).astype(np.int32)
    union, places = selection.union_columns(jnp.asarray(columns), 50)
    expected = np.unique(columns)
    np.testing.assert_array_equal(union[: len(expected)], expected)
    assert np.all(np.asarray(union[len(expected) :]) >= 50)
    assert len(np.unique(union)) == 12  # the padding is distinct too
    np.testing.assert_array_equal(np.asarray(union)[places], columns)


def test_union_wider_than_the_outputs() -> None:
    columns = jnp.array([[0, 1], [1, 2], [2, 0]], jnp.int32)
    union, places = selection.union_columns(columns, 3)
    assert union.shape == (6,) and len(np.unique(union)) == 6
    np.testing.assert_array_equal(union[:3], [0, 1, 2])
    np.testing.assert_array_equal(union[places], columns)
