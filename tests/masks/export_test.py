import io
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

from sparsetrain import masks
from sparsetrain.masks.export import FORMATS
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.structure import as_matrix


def model(dtype=jnp.float32):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    return {
        "conv": {
            "kernel": normal(3, 3, 8, 32),
            "bias": jnp.array([-0.0, jnp.nan, jnp.inf, 1e-30], dtype),
        },
        "dense": {"kernel": normal(64, 48)},
        "output": {"kernel": normal(48, 3)},
        "steps": jnp.array(7),
        "empty": jnp.zeros((0, 3), dtype),
    }


def trained(params):
    """The parameters with a tenth of two kernels left, and a state that says so."""
    rng = np.random.default_rng(1)
    chosen = {
        path: jnp.asarray(rng.random(leaf.shape) < 0.1)
        for path, leaf in leaves_by_path(params).items()
        if path in ("conv/kernel", "dense/kernel")
    }
    state = masks.MaskState(0, chosen, (), (), 0.0)
    return masks.apply(params, state), state


def bits(leaf):
    array = np.asarray(leaf)
    return array.shape, array.dtype, array.tobytes()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_round_trip_is_exact_and_small(tmp_path, format, dtype):
    params, state = trained(model(dtype))
    # A live weight that happens to be zero is live still; nor are NaN and -0 lost.
    at = np.argwhere(np.asarray(state.masks["conv/kernel"]))[:3].T
    params["conv"]["kernel"] = (
        params["conv"]["kernel"].at[tuple(at)].set(jnp.array([0.0, -0.0, jnp.nan], dtype))
    )
    size = masks.export(params, state, tmp_path / "model.npz", format)
    assert size == (tmp_path / "model.npz").stat().st_size
    found = masks.load(tmp_path / "model.npz")
    leaves = leaves_by_path(params)
    assert found.params.keys() == leaves.keys() and found.masks.keys() == state.masks.keys()
    for path, leaf in leaves.items():
        assert bits(found.params[path]) == bits(leaf), path
    for path, mask in state.masks.items():
        np.testing.assert_array_equal(found.masks[path], mask)
    dense = sum(leaf.nbytes for leaf in leaves.values())
    assert size < 0.5 * dense
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_masked_is_not_written(tmp_path, format):
    params = model()
    _, state = trained(params)
    masks.export(params, state, tmp_path / "m", format)  # The parameters were not masked.
    found = masks.load(tmp_path / "m")
    for path, mask in found.masks.items():
        assert not np.any(found.params[path][~mask]) and np.all(found.params[path][mask])


def test_jax_reads_the_fields_as_bcsr(tmp_path):
    params, state = trained(model())
    masks.export(params, state, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as held:
        fields = tuple(
            jnp.asarray(held[f"conv/kernel:{name}"]) for name in ("data", "indices", "indptr")
        )
    matrix = sparse.BCSR(fields, shape=(32, 72))
    expected = as_matrix(params["conv"]["kernel"])
    np.testing.assert_array_equal(matrix.todense(), expected)
    x = jax.random.normal(jax.random.key(1), (72, 5))
    np.testing.assert_allclose(matrix @ x, expected @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_and_everything_active(tmp_path, format):
    params = {"none": jnp.ones((2, 3)), "all": jnp.ones((2, 3)), "file": jnp.ones((1, 1))}
    chosen = {"none": jnp.zeros((2, 3), bool), "all": jnp.ones((2, 3), bool)}
    masks.export(params, masks.MaskState(0, chosen, (), (), 0.0), tmp_path / "m", format)
    found = masks.load(tmp_path / "m")
    assert not found.params["none"].any() and found.params["all"].all()
    assert not found.masks["none"].any() and found.masks["all"].all()


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_refused(tmp_path, format):
    params, state = trained(model())
    path = tmp_path / "m.npz"
    masks.export(params, state, path, format)
    whole = path.read_bytes()
    for kept in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="not a whole export"):
            masks.load(path)
    # A bit of the largest member.
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        largest = max(archive.infolist(), key=lambda each: each.compress_size)
    place = largest.header_offset + 100 + largest.compress_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
    with pytest.raises(ValueError, match="not a whole export"):
        masks.load(path)
    path.write_bytes(b"not a zip file at all")
    with pytest.raises(ValueError, match="not a whole export"):
        masks.load(path)
    np.savez(path, w=np.ones(3))
    with pytest.raises(ValueError, match="not a whole export"):
        masks.load(path)


def test_pickles_and_later_versions_are_refused(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, **{":head": np.array([{"version": 1}], object)})
    with pytest.raises(ValueError, match="not a whole export"):
        masks.load(path)
    np.savez(path, **{":head": np.frombuffer(json.dumps({"version": 9}).encode(), np.uint8)})
    with pytest.raises(ValueError, match="has version 9"):
        masks.load(path)
    with pytest.raises(FileNotFoundError):
        masks.load(tmp_path / "absent")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    params, state = trained(model())
    path = tmp_path / "m.npz"
    masks.export(params, state, path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="no space"):
        masks.export(params, state, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["m.npz"]


def test_bad_arguments(tmp_path):
    params, state = trained(model())
    with pytest.raises(ValueError, match=r"format='csc'"):
        masks.export(params, state, tmp_path / "m", "csc")
    stacked = state._replace(masks={p: jnp.stack([m] * 2) for p, m in state.masks.items()})
    with pytest.raises(ValueError, match=r"mask of conv/kernel has shape \(2, 3, 3, 8, 32\)"):
        masks.export(params, stacked, tmp_path / "m")
    assert not list(tmp_path.iterdir())
