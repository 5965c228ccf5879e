"""Counts to the bit: every kernel against NumPy, in its interpreter and in the real lowering."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparsetrain import kernels, selection
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.count_above import mosaic_gpu, per_pass, reference, shapes, tpu
from sparsetrain.kernels.pattern import FLOAT32_NAN, magnitude_patterns
from tests.kernels import targets

MODULES = {dispatch.MOSAIC_GPU: mosaic_gpu, dispatch.TPU: tpu}


def oracle(values, thresholds):
    """One comparison after the other, on the patterns as NumPy sees them."""
    wide = np.asarray(values, np.float32).reshape(-1)
    patterns = wide.view(np.int32) & 0x7FFFFFFF
    patterns = np.minimum(patterns, FLOAT32_NAN)
    return [int(np.sum(patterns >= int(t))) for t in thresholds]


def awkward(size, seed=0):
    """Ties, zeros, denormals, infinities and NaN among normal values."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(size).astype(np.float32)
    special = np.float32([0.0, -0.0, 1.0, -1.0, 1e-41, -1e-44, np.inf, -np.inf, np.nan, -np.nan])
    at = rng.random(size) < 0.3
    return np.where(at, rng.choice(special, size), values)


def probes(number):
    given = np.float32([0.0, 1e-44, 1e-41, 1e-30, 0.5, 1.0, 2.0, 3.0, np.inf, np.nan])
    return jnp.resize(magnitude_patterns(jnp.asarray(given)), (number,))


@pytest.mark.parametrize(
    ("dtype", "number"),
    [(jnp.float32, 1), (jnp.float32, 15), (jnp.bfloat16, 15), (jnp.float16, 15), (jnp.int32, 15)],
)
@pytest.mark.parametrize("name", MODULES)
def test_kernels_count_to_the_bit(name, dtype, number):
    if (name, dtype) == (dispatch.TPU, jnp.float16):
        assert (
            targets.custom_calls(name, kernels.count_above, jnp.zeros(9999, dtype), probes(15))
            == []
        )
        return
    values = jnp.asarray(awkward(2 * tpu.CHUNK + 77))
    values = magnitude_patterns(values) if dtype == jnp.int32 else values.astype(dtype)
    thresholds = probes(number)
    wanted = reference.count_above(values, thresholds).tolist()
    if dtype == jnp.float32:
        assert wanted == oracle(values, thresholds)
    with targets.interpreter(name) as options:
        found = MODULES[name].count_above(values, thresholds, **options)
    assert found.dtype == jnp.int32 and found.tolist() == wanted


@pytest.mark.parametrize("name", MODULES)
def test_arrays_shorter_than_a_block_and_longer_than_all_at_once(name, monkeypatch):
    monkeypatch.setattr(mosaic_gpu, "MOST", 3)
    for size in (1, 100, 7 * mosaic_gpu.CHUNK + 1):
        values = jnp.asarray(awkward(size, size))
        with targets.interpreter(name) as options:
            found = MODULES[name].count_above(values, probes(10), **options)
        assert found.tolist() == oracle(values, probes(10))


@settings(deadline=None, max_examples=12)
@given(
    size=st.one_of(st.integers(0, 100), st.sampled_from([1023, 4097])),
    number=st.integers(1, 17),
    seed=st.integers(0, 99),
)
def test_any_length(size, number, seed):
    values = awkward(size, seed)
    found = kernels.count_above(jnp.asarray(values), probes(number))
    assert found.tolist() == oracle(values, probes(number))


@pytest.mark.parametrize("name", MODULES)
@settings(max_examples=3, phases=[Phase.explicit, Phase.generate])
@given(
    size=st.integers(1, 3 * mosaic_gpu.CHUNK),
    number=st.integers(1, 15),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.int32]),
)
def test_any_length_in_the_interpreters(name, size, number, seed, dtype):
    values = jnp.asarray(awkward(size, seed))
    values = magnitude_patterns(values) if dtype == jnp.int32 else values.astype(dtype)
    thresholds = probes(number)
    wanted = reference.count_above(values, thresholds).tolist()
    with targets.interpreter(name) as options:
        found = MODULES[name].count_above(values, thresholds, **options)
    assert found.tolist() == wanted


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
@pytest.mark.parametrize("name", MODULES)
def test_each_platform_gets_its_kernel_once(name, dtype):
    values, thresholds = jnp.zeros(shapes.SMALL * 4, dtype), probes(15)
    assert targets.custom_calls(name, kernels.count_above, values, thresholds) == [
        targets.CALLS[name]
    ]


def test_wider_patterns_and_more_thresholds_are_left_to_xla():
    with jax.sharding.use_abstract_mesh(targets.H200), pytest.raises(ValueError, match="16 thresh"):
        kernels.count_above(jnp.zeros(9), probes(16), implementation="mosaic_gpu")
    found = targets.custom_calls(
        dispatch.MOSAIC_GPU, kernels.count_above, jnp.zeros(9999), probes(16)
    )
    assert found == []


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"values \(2, 3\).*give two vectors"):
        kernels.count_above(jnp.zeros((2, 3)), probes(1))
    with pytest.raises(ValueError, match="the latter not empty"):
        kernels.count_above(jnp.zeros(3), probes(1)[:0])
    with pytest.raises(ValueError, match="implementation='tpu': this is a cpu"):
        kernels.count_above(jnp.zeros(3), probes(1), implementation="tpu")


@pytest.mark.parametrize("name", MODULES)
def test_selection_counts_with_the_kernel(name):
    values = jnp.zeros(1 << 20)
    calls = targets.custom_calls(name, lambda v: selection.kth_magnitude(v, 100), values)
    assert (
        calls.count(targets.CALLS[name]) == 2
    )  # a pass at the sample's thresholds, and the loop's


@pytest.mark.parametrize("name", MODULES)
def test_the_search_of_accelerators_finds_the_same(name, monkeypatch):
    """Fifteen thresholds a pass, and few entries sorted: what a GPU or TPU does, here in XLA."""
    values = awkward(1 << 20)
    patterns = np.sort(np.minimum(values.view(np.int32) & 0x7FFFFFFF, FLOAT32_NAN))[::-1]
    where = {dispatch.MOSAIC_GPU: "gpu", dispatch.TPU: "tpu"}[name]
    monkeypatch.setattr(dispatch, "target", lambda: dispatch.Target(where, "described", 9.0))
    monkeypatch.setattr(MODULES[name], "count_above", reference.count_above)
    assert per_pass() == 15
    found = jax.jit(lambda v, k: selection.kth_magnitude(v, k))
    for k in (1, 1000, 10_486, 500_000, 1 << 20):
        pattern = magnitude_patterns(found(jnp.asarray(values), jnp.int32(k)))
        assert int(pattern) == int(patterns[k - 1])


@pytest.mark.parametrize("name", MODULES)
def test_rows_of_a_matrix(name):
    rows, thresholds = jnp.asarray(awkward(2 * 5000)).reshape(2, -1), probes(3)
    count = jax.vmap(kernels.count_above, in_axes=(0, None))
    assert targets.custom_calls(name, count, rows, thresholds) == [targets.CALLS[name]]
    with targets.interpreter(name) as options:
        count = jax.vmap(lambda row: MODULES[name].count_above(row, thresholds, **options))
        assert count(rows).tolist() == [oracle(row, thresholds) for row in rows]
