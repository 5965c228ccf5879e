import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparsetrain.models import MLP
from sparsetrain.training import state


def create(seed):
    return state.create(MLP(hidden=(4,)), optax.adam(1e-3), jnp.zeros([2, 3]), seed)


def test_the_seed_fixes_the_start():
    same, again, other = (
        create(seed).variables["params"]["hidden_0"]["kernel"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_every_use_has_a_key_of_its_own():
    key = create(0).key
    keys = [
        key,
        jax.random.fold_in(key, 0),  # Initialisation.
        state.data_key(key),
        *(state.dropout_key(key, step) for step in range(4)),
    ]
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(data) == len(keys)
