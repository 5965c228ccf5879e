import jax
import pytest

from sparsetrain.kernels import dispatch
from tests.kernels import targets

BOTH = (dispatch.MOSAIC_GPU, dispatch.TPU)


@pytest.mark.parametrize(
    ("mesh", "chosen"),
    [(targets.H200, "mosaic_gpu"), (targets.V5E, "tpu"), (targets.A100, "xla")],
)
def test_the_device_that_a_program_is_made_for_decides(mesh, chosen):
    with jax.sharding.use_abstract_mesh(mesh):
        assert dispatch.choose(None, BOTH) == chosen
        # A kernel that does not beat XLA is not the default.
        assert dispatch.choose(None, ()) == "xla"
        assert dispatch.choose("xla", BOTH) == "xla"


def test_here_it_is_xla():
    assert dispatch.choose(None, BOTH) == "xla"


@pytest.mark.parametrize(
    ("mesh", "name", "reason"),
    [
        (targets.H200, "tpu", r"this is a gpu \(NVIDIA H200\)"),
        (targets.V5E, "mosaic_gpu", r"this is a tpu \(TPU v5e\)"),
        (targets.A100, "mosaic_gpu", "capability of 'NVIDIA A100' is not known"),
    ],
)
def test_a_choice_that_cannot_run_says_why(mesh, name, reason):
    with (
        jax.sharding.use_abstract_mesh(mesh),
        pytest.raises(ValueError, match=f"implementation='{name}': .*{reason}.*'xla', which runs"),
    ):
        dispatch.choose(name, BOTH)


@pytest.mark.parametrize(
    ("size", "kind", "chosen"),
    [
        (2, "Auto", "xla"),
        (2, "Explicit", "xla"),
        (2, "Manual", "mosaic_gpu"),
        (1, "Auto", "mosaic_gpu"),
    ],
)
def test_what_the_compiler_splits_over_devices_is_xlas(size, kind, chosen):
    mesh = jax.sharding.AbstractMesh(
        (size,),
        ("workers",),
        axis_types=(jax.sharding.AxisType[kind],),
        abstract_device=targets.H200.abstract_device,
    )
    with jax.sharding.use_abstract_mesh(mesh):
        assert dispatch.choose(None, BOTH) == chosen
        assert dispatch.choose("mosaic_gpu", BOTH) == "mosaic_gpu"


def test_of_several_devices_all_may_be_meant(monkeypatch):
    assert not dispatch.may_be_split()
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert dispatch.may_be_split()
    with jax.sharding.use_abstract_mesh(targets.H200):
        assert not dispatch.may_be_split()


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(
        ValueError, match="implementation='triton': give one of xla, mosaic_gpu, tpu"
    ):
        dispatch.choose("triton", BOTH)


def test_a_preference_is_what_none_means(monkeypatch):
    with jax.sharding.use_abstract_mesh(targets.H200):
        with dispatch.prefer("xla"):
            assert dispatch.choose(None, BOTH) == "xla"
            assert dispatch.choose("mosaic_gpu", BOTH) == "mosaic_gpu"
        monkeypatch.setattr(dispatch, "may_be_split", lambda: True)
        assert dispatch.choose(None, BOTH) == "xla"
        with dispatch.prefer("mosaic_gpu"):
            assert dispatch.choose(None, BOTH) == "mosaic_gpu"
            assert dispatch.choose(None, BOTH, "too odd") == "xla"
            assert dispatch.choose(None, ("tpu",)) == "xla"
    with dispatch.prefer("tpu"), pytest.raises(ValueError, match="'tpu': this is a cpu"):
        dispatch.choose(None, BOTH)
    with pytest.raises(ValueError, match="implementation='cuda': give one of"):
        dispatch.prefer("cuda")


def test_what_was_compiled_under_another_preference_is_compiled_anew():
    seen = []

    @jax.jit
    def f(x):
        seen.append(dispatch.choose(None, BOTH))
        return x

    with jax.sharding.use_abstract_mesh(targets.H200):
        f.trace(1.0), f.trace(1.0)
        with dispatch.prefer("xla"):
            f.trace(1.0)
    assert seen == ["mosaic_gpu", "xla"]
