"""The k-th largest magnitude against a sort, for awkward inputs, over leaves and over shards."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from sparsetrain import selection
from sparsetrain.selection import bracket, threshold

SIZES = (1, 33, 4500)
kth = jax.jit(selection.kth_magnitude)
kth_of_leaves = jax.jit(selection.kth_magnitude_of)


def same(got, expected: np.ndarray) -> bool:
    """Bits are compared: denormals must survive; any NaN is as good as another."""
    got = np.asarray(got)
    if np.isnan(expected):
        return bool(np.isnan(got))
    return got.view(np.int32) == np.abs(expected, dtype=np.float32).view(np.int32)


def some_counts(size: int) -> list[int]:
    return sorted({1, min(size, 2), max(1, size // 100), max(1, size // 3), size})


@pytest.mark.parametrize("size", SIZES)
def test_kth_of_awkward_values(awkward_values, order, size: int) -> None:
    values = awkward_values(size)
    ranked = values[order(values)]
    for k in some_counts(size):
        assert same(kth(jnp.asarray(values), k), ranked[k - 1]), k
        thirds = [jnp.asarray(part) for part in np.array_split(values, min(3, size))]
        assert same(kth_of_leaves(thirds, k), ranked[k - 1]), k


def through_a_sample(values, k):
    return selection.kth_magnitude(values, k), threshold.find([values], k)


def test_kth_of_awkward_values_through_a_sample(awkward_values, order, monkeypatch) -> None:
    """The way of large arrays, forced on a small one; few entries may be taken out."""
    monkeypatch.setattr(threshold, "LEAST_SAMPLED", 1)
    monkeypatch.setattr(threshold, "FEW", 40)
    size = 9001
    values = awkward_values(size)
    ranked = values[order(values)]
    found = jax.jit(through_a_sample)
    for k in some_counts(size):
        exact, by_counting = found(jnp.asarray(values), k)
        assert same(exact, ranked[k - 1]), k
        assert bool(by_counting.is_exact(jnp.int32(k)))
        assert int(by_counting.at_lower) >= k > int(by_counting.at_upper)


def test_a_large_array(awkward_values, order) -> None:
    values = awkward_values(threshold.LEAST_SAMPLED + 13)
    ranked = values[order(values)]
    for k in (1, 600, 60_000):
        assert same(kth(jnp.asarray(values), k), ranked[k - 1]), k


@hypothesis.given(
    patterns=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8), k=st.integers(1, 8)
)
@hypothesis.settings(deadline=None, max_examples=100)
def test_any_bits(order, patterns: list[int], k: int) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    assert same(kth(jnp.asarray(values), k), values[order(values)][k - 1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bits(order, dtype) -> None:
    values = jax.random.normal(jax.random.key(0), (30, 40)).astype(dtype)
    wide = np.asarray(values, np.float32)
    assert same(kth(values, 77), wide.reshape(-1)[order(wide)][76])
    mixed = [values, values.astype(jnp.float32)]
    assert same(kth_of_leaves(mixed, 2 * 77), wide.reshape(-1)[order(wide)][76])


def test_float64() -> None:
    with jax.enable_x64(True):
        values = jnp.array([1.0, 1.0 + 2.0**-40, -1.0 - 2.0**-50, 5e-324, 0.0])
        got = [float(kth(values, k)) for k in (1, 2, 3, 4, 5)]
        assert got == [1.0 + 2.0**-40, 1.0 + 2.0**-50, 1.0, 5e-324, 0.0]


def test_a_traced_k_compiles_once_and_is_clipped() -> None:
    traces = []

    @jax.jit
    def traced(values, k):
        traces.append(k)
        return selection.kth_magnitude(values, k)

    values = jnp.arange(1.0, 6.0)
    assert [float(traced(values, k)) for k in (-1, 0, 1, 5, 9)] == [5.0, 5.0, 5.0, 1.0, 1.0]
    assert len(traces) == 1


def test_few_passes(monkeypatch) -> None:
    """The worst input costs no more than the bound in `search` says, a smooth one far less."""

    def passes(values, k: int) -> int:
        state = {"passes": 0}

        def count(probes):
            state["passes"] += 1
            patterns = selection.magnitude_patterns(values)
            return jnp.sum(patterns[None] >= probes[:, None], axis=1, dtype=jnp.int32)

        with jax.disable_jit():
            start = bracket.widest(values.size, jnp.dtype("int32"))
            assert bool(bracket.search(count, k, start).is_exact(jnp.int32(k)))
        return state["passes"]

    rng = np.random.default_rng(0)
    assert passes(jnp.asarray(rng.standard_normal(5000), jnp.float32), 500) <= 10
    worst = np.r_[np.zeros(2000), np.full(2000, 1e-42), 1.0, 1e38].astype(np.float32)
    assert passes(jnp.asarray(worst), 1000) <= 30


def test_no_sort_and_no_copy() -> None:
    values = jnp.ones(((1 << 20) + 5,))
    compiled = jax.jit(lambda v, k: selection.kth_magnitude(v, k)).lower(values, 5).compile()
    assert " sort(" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < values.size  # a quarter of its bytes


def test_vmap(order) -> None:
    rows = np.random.default_rng(0).integers(-9, 9, (4, 300)).astype(np.float32)
    counts = jnp.array([1, 7, 150, 300])
    got = jax.jit(jax.vmap(selection.kth_magnitude))(jnp.asarray(rows), counts)
    expected = [abs(row[order(row)][k - 1]) for row, k in zip(rows, counts.tolist(), strict=True)]
    np.testing.assert_array_equal(got, expected)


def test_gradient_is_zero() -> None:
    grad = jax.grad(lambda v: kth(v, 2) + 0.0)(jnp.arange(1.0, 5.0))
    np.testing.assert_array_equal(grad, np.zeros(4))


def test_counts_are_added_over_shards(order) -> None:
    mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    values = np.random.default_rng(1).standard_normal(8 * 100).astype(np.float32)
    shared = jax.jit(
        jax.shard_map(
            lambda v: selection.kth_magnitude_of([v], 123, axis_name="d"),
            mesh=mesh,
            in_specs=P("d"),
            out_specs=P(),
        )
    )
    assert same(shared(jnp.asarray(values)), values[order(values)][122])


def test_counts_are_added_over_named_rows(order) -> None:
    """The same hook under vmap, whose axis has more than one member on any machine."""
    values = np.random.default_rng(2).standard_normal((4, 100)).astype(np.float32)
    each = jax.vmap(lambda v: selection.kth_magnitude_of([v], 123, axis_name="d"), axis_name="d")
    shared = jax.jit(each)
    flat = values.reshape(-1)
    expected = np.full(4, np.abs(flat[order(flat)][122]))
    np.testing.assert_array_equal(shared(jnp.asarray(values)), expected)


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k}: must lie in 1..3"):
        selection.kth_magnitude(jnp.ones(3), k)


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="dtype int32"):
        selection.kth_magnitude(jnp.arange(3), 1)
    with pytest.raises(ValueError, match="0 entries"):
        selection.kth_magnitude_of([jnp.zeros((0,))], 1)
