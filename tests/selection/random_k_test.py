"""Random columns: distinct, and every column equally likely."""

import jax
import numpy as np

from sparsetrain import selection


def test_random_columns_are_distinct_and_uniform() -> None:
    draw = jax.vmap(lambda key: selection.random_columns(key, 10, 3))
    columns = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert all(len(set(row)) == 3 for row in columns)
    share = np.bincount(columns.reshape(-1), minlength=10) / 4000
    # 0.3 expected; 5 standard deviations of a binomial share.
    np.testing.assert_allclose(share, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / 4000))
