import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparsetrain import kernels
from sparsetrain.kernels import dispatch
from sparsetrain.kernels.block_top_k_feedback import (
    BLOCKS,
    mosaic_gpu,
    reference,
    shapes,
    tpu,
)
from tests.kernels import targets

MODULES = {dispatch.MOSAIC_GPU: mosaic_gpu, dispatch.TPU: tpu}
LAST = {
    dispatch.MOSAIC_GPU: (),
    dispatch.TPU: (1,),
}  # kept of a shorter last block, of which there is none
SIZE, BLOCK, KEEP = shapes.SMALL


def oracle(g, m, k, block):
    """Block by block with a stable sort: ties to the lower position."""
    u = (m + np.asarray(g, np.float32)).astype(np.float32)
    kept, rest = np.zeros(u.shape, g.dtype), u.copy()
    for begin in range(0, u.size, block):
        part = u[begin : begin + block]
        keep = k if part.size == block else max(1, round(k * part.size / block))
        key = np.where(np.isnan(part), np.inf, np.abs(part))
        order = np.lexsort((np.arange(part.size), ~np.isnan(part), -key))[:keep]
        at = begin + order
        kept[at] = u[at].astype(g.dtype)
        rest[at] = u[at] - kept[at].astype(np.float32)
    return kept, rest


def awkward(kind, size=SIZE):
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(size).astype(np.float32)
    values = {
        "normal": normal,
        "ties": rng.integers(-2, 3, size).astype(np.float32),
        "zeros": np.zeros(size, np.float32),
        "alike": np.full(size, -3.0, np.float32),
        "ascending": np.arange(size, dtype=np.float32),
        "denormal": normal * np.float32(1e-41),
        "few": np.where(np.arange(size) % 1000 == 7, normal, 0),
        "not finite": np.where(
            np.arange(size) % 500 == 3,
            np.resize(np.float32([np.nan, np.inf, -np.inf, -np.nan]), size),
            normal,
        ),
    }
    return values[kind].astype(np.float32)


KINDS = ("normal", "ties", "zeros", "alike", "ascending", "denormal", "few", "not finite")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", MODULES)
def test_kernels_are_the_reference_to_the_bit(name, dtype, kind):
    g = jnp.asarray(awkward(kind), dtype)
    m = jnp.asarray(0.1 * awkward("normal") if kind == "normal" else 0 * awkward("normal"))
    wanted = reference.block_top_k_feedback(g, m, KEEP, BLOCK)
    with targets.interpreter(name) as options:
        found = MODULES[name].block_top_k_feedback(g, m, KEEP, BLOCK, *LAST[name], **options)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.mark.parametrize(("block", "k"), [(1024, 1), (1024, 1024), (2048, 20), (4096, 41)])
@pytest.mark.parametrize("name", MODULES)
def test_every_block_and_the_ends_of_k(name, block, k):
    g, m = jnp.asarray(awkward("ties", 2 * block)), jnp.asarray(awkward("normal", 2 * block))
    with targets.interpreter(name) as options:
        found = MODULES[name].block_top_k_feedback(g, m, k, block, *LAST[name], **options)
    for a, b in zip(found, oracle(np.asarray(g), np.asarray(m), k, block), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=25)
@given(
    size=st.one_of(st.integers(1, 40), st.sampled_from([1023, 1024, 1025, 2048, 3000])),
    k=st.integers(1, 1024),
    seed=st.integers(0, 9),
    is_narrow=st.booleans(),
)
def test_any_length(size, k, seed, is_narrow):
    rng = np.random.default_rng(seed)
    # Few values, so that there are ties.
    g = rng.integers(-3, 4, size).astype(jnp.bfloat16 if is_narrow else np.float32)
    m = (rng.integers(-3, 4, size) / 4).astype(np.float32)
    found = kernels.block_top_k_feedback(jnp.asarray(g), jnp.asarray(m), k, block=1024)
    for a, b in zip(found, oracle(g, m, k, 1024), strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.mark.parametrize("name", MODULES)
@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(
    blocks=st.integers(1, 3),
    tail=st.integers(0, BLOCK - 1),
    k=st.one_of(st.sampled_from([1, BLOCK]), st.integers(1, BLOCK)),
    kind=st.sampled_from(KINDS),
    is_narrow=st.booleans(),
)
def test_any_shape_in_the_interpreters(name, blocks, tail, k, kind, is_narrow):
    size = blocks * BLOCK + tail
    g = jnp.asarray(awkward(kind, size), jnp.bfloat16 if is_narrow else jnp.float32)
    m = jnp.asarray(awkward("ties", size))
    wanted = kernels.block_top_k_feedback(
        g, jnp.copy(m), k, block=BLOCK, implementation=dispatch.XLA
    )
    with targets.interpreter(name) as options, pytest.MonkeyPatch.context() as patch:
        run = functools.partial(MODULES[name].block_top_k_feedback, **options)
        patch.setattr(MODULES[name], "block_top_k_feedback", run)
        with jax.sharding.use_abstract_mesh(targets.MESHES[name]):
            found = kernels.block_top_k_feedback(g, m, k, block=BLOCK, implementation=name)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.mark.parametrize("name", MODULES)
def test_a_shorter_last_block_beside_a_kernel(name, monkeypatch):
    size = tpu.AT_ONCE + 2 * BLOCK + 100
    g, m = (jnp.asarray(awkward(kind, size)) for kind in ("normal", "ties"))
    wanted = oracle(np.asarray(g), np.asarray(m), KEEP, BLOCK)
    with targets.interpreter(name) as options, jax.sharding.use_abstract_mesh(targets.MESHES[name]):
        run = functools.partial(MODULES[name].block_top_k_feedback, **options)
        monkeypatch.setattr(MODULES[name], "block_top_k_feedback", run)
        found = kernels.block_top_k_feedback(g, m, KEEP, block=BLOCK, implementation=name)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODULES)
def test_inside_a_shard_the_kernel_is_called_too(name, monkeypatch):
    """With `check_vma`, where types say what differs between devices."""
    device = targets.MESHES[name].abstract_device
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.AbstractMesh((2,), ("workers",), axis_types=kind, abstract_device=device)
    monkeypatch.setitem(targets.MESHES, name, mesh)
    rows = jax.sharding.PartitionSpec("workers")
    step = jax.shard_map(
        lambda g: kernels.block_top_k_feedback(g, jnp.zeros_like(g), 10, block=1024),
        mesh=mesh,
        in_specs=rows,
        out_specs=rows,
    )
    assert targets.custom_calls(name, step, jnp.zeros(4096)) == [targets.CALLS[name]]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_nothing_is_lost_and_every_block_contracts(dtype):
    g, m = jnp.asarray(awkward("normal"), dtype), jnp.asarray(awkward("ascending") / SIZE)
    u = np.asarray(m) + np.asarray(g, np.float32)
    kept, rest = kernels.block_top_k_feedback(g, m, KEEP, block=BLOCK)
    assert m.is_deleted() and kept.dtype == dtype and rest.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(kept, np.float32) + np.asarray(rest), u)
    left = np.sum(np.asarray(rest).reshape(-1, BLOCK).astype(np.float64) ** 2, axis=1)
    whole = np.sum(u.reshape(-1, BLOCK).astype(np.float64) ** 2, axis=1)
    assert np.all(left <= (1 - KEEP / BLOCK) * whole)
    assert np.count_nonzero(kept) == KEEP * SIZE // BLOCK


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", MODULES)
def test_each_platform_gets_its_kernel_once(name, block, dtype):
    g, m = jnp.zeros(2 * block, dtype), jnp.zeros(2 * block)

    def step(g, m):
        return kernels.block_top_k_feedback(g, m, 10, block=block)

    assert targets.custom_calls(name, step, g, m) == [targets.CALLS[name]]


@pytest.mark.parametrize("name", MODULES)
def test_rows_of_a_matrix(name):
    g, m = (jnp.asarray(awkward(kind, 2 * BLOCK)).reshape(2, -1) for kind in ("normal", "ties"))

    def step(g, m):
        return kernels.block_top_k_feedback(g, m, KEEP, block=BLOCK)

    assert targets.custom_calls(name, jax.vmap(step), g, m) == [targets.CALLS[name]]
    with targets.interpreter(name) as options:
        run = functools.partial(MODULES[name].block_top_k_feedback, **options)
        found = jax.vmap(lambda g, m: run(g, m, KEEP, BLOCK, *LAST[name]))(g, m)
    wanted = oracle(np.ravel(g), np.ravel(m), KEEP, BLOCK)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.ravel(a), b)


def test_here_no_kernel_is_called():
    g = jnp.zeros(SIZE)
    step = jax.jit(functools.partial(kernels.block_top_k_feedback, k=KEEP, block=BLOCK))
    text = step.lower(g, g).as_text()
    assert not any(call in text for call in targets.CALLS.values())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"k": 0}, ValueError, r"k=0: must lie in 1\.\.4096"),
        ({"k": 4097}, ValueError, r"k=4097: must lie in 1\.\.4096"),
        ({"block": 100}, ValueError, "block=100: give one of 1024, 2048, 4096"),
        ({"g": jnp.zeros((2, 4))}, ValueError, "give two vectors of one length"),
        ({"m": jnp.zeros(7)}, ValueError, "give two vectors of one length"),
        ({"m": jnp.zeros(8, jnp.bfloat16)}, TypeError, "m of bfloat16: give g in float32 or"),
        ({"g": jnp.zeros(8, jnp.int32)}, TypeError, "g of int32"),
        ({"implementation": "tpu"}, ValueError, "implementation='tpu': this is a cpu"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        kernels.block_top_k_feedback(**({"g": jnp.zeros(8), "m": jnp.zeros(8), "k": 1} | arguments))


def test_an_empty_vector_stays_empty():
    kept, rest = kernels.block_top_k_feedback(jnp.zeros(0), jnp.zeros(0), 3)
    assert kept.shape == rest.shape == (0,)
    assert jax.eval_shape(lambda g: g, kept).dtype == jnp.float32
