import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import kernels
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.tile_product import Factor, mosaic_gpu
from tests.kernels import products, targets

DEPTH = mosaic_gpu.DEPTH


# The largest tile is that of large batches, which no interpreter multiplies in a test's time.
@pytest.mark.parametrize(("left_turned", "right_turned"), [(False, True), (True, False)])
def test_large_tiles_with_as_many_steps_as_a_list_says(left_turned, right_turned):
    steps = jnp.array([5, 0])
    a, b = products.normal(0, 256, 5 * DEPTH), products.normal(1, 5 * DEPTH, 256)
    stored_a, stored_b = a.T if left_turned else a, b.T if right_turned else b

    def of_a(lists, i, j, step):
        return (step, i) if left_turned else (i, step)

    def of_b(lists, i, j, step):
        return (j, step) if right_turned else (step, j)

    def product(a, b, **options):
        return mosaic_gpu.tile_product(
            Factor(a, of_a, left_turned),
            Factor(b, of_b, right_turned),
            [steps],
            grid=(1, 2),
            tile=(256, 128),
            steps=lambda lists, i, j: lists[0][j],
            **options,
        )

    found = products.interpreted(dispatch.MOSAIC_GPU, product, stored_a, stored_b)
    wanted = products.wide(a) @ products.wide(b)
    wanted[:, 128:] = 0
    products.assert_close(found, wanted, 5 * DEPTH)
    assert np.all(products.wide(found)[:, 128:] == 0)


def test_of_hoppers_successor_no_instruction_of_hopper_is_asked():
    g, w, blocks = products.normal(0, 8, 256), products.normal(1, 256, 128), jnp.array([1])
    with jax.sharding.use_abstract_mesh(targets.described("NVIDIA B200", "gpu", 148)):
        traced = jax.jit(kernels.block_column_matmul).trace(g, w, blocks)
        assert targets.calls(traced.lower(lowering_platforms=("cuda",)).as_text()) == []
        with pytest.raises(ValueError, match="'mosaic_gpu': NVIDIA B200 has no wgmma"):
            kernels.block_column_matmul(g, w, blocks, implementation="mosaic_gpu")
