"""Devices that are only described, and the interpreters that stand in for them."""

import contextlib
import re
import threading
import warnings

import jax
import pytest
from jax.experimental.pallas import tpu as pltpu

from sparsetrain.kernels import dispatch

try:  # public from JAX 0.11
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams


def described(kind, platform, cores):
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=cores, platform=platform)
    return jax.sharding.AbstractMesh((), (), abstract_device=device)


A100 = described("NVIDIA A100", "gpu", 108)
H200 = described("NVIDIA H200", "gpu", 132)
V5E = described("TPU v5e", "tpu", 1)
MESHES = {dispatch.MOSAIC_GPU: H200, dispatch.TPU: V5E}
PLATFORMS = {dispatch.MOSAIC_GPU: "cuda", dispatch.TPU: "tpu"}
CALLS = {dispatch.MOSAIC_GPU: "mosaic_gpu_v2", dispatch.TPU: "tpu_custom_call"}


@contextlib.contextmanager
def interpreter(name):
    """Options with which a kernel runs here; a race between its threads and copies is an error."""
    with _no_races():
        if name == dispatch.TPU:
            yield {"interpret": pltpu.InterpretParams(detect_races=True)}
            return
        with jax.sharding.use_abstract_mesh(H200), _as_later_versions():
            yield {"interpret": InterpretGPUParams(detect_races=True)}
            jax.effects_barrier()


@contextlib.contextmanager
def _no_races():
    """The interpreters only print what they find, and remember it of the last kernel."""
    from jax._src.pallas.mosaic.interpret.race_detection_state import RaceDetectionState

    found = []

    def remember(state, attribute, value):
        object.__setattr__(state, attribute, value)
        if attribute == "races_found" and value:
            found.append(state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RaceDetectionState, "__setattr__", remember)
        yield
        jax.effects_barrier()
    assert not found, "a race; see what was printed"


@contextlib.contextmanager
def _as_later_versions():
    """Gives the GPU interpreter of JAX 0.10 what later ones have.

    Products with transposed operands; and the program of the threads of a block compiled once, not anew in
    every thread of every block, which would take most of the time.
    """
    from jax._src.pallas.mosaic.interpret import thread_map, utils
    from jax._src.pallas.mosaic_gpu.interpret.shared_memory import GPUSharedMemory
    from jax._src.state.types import TransposeTransform

    if hasattr(utils, "to_access"):
        yield
        return

    class Turned(tuple):
        """A range of a buffer that is read the other way round."""

    to_range, read = utils.to_range, GPUSharedMemory.get_buffer_content

    def to_range_or_turned(transforms):
        plain = [each for each in transforms if not isinstance(each, TransposeTransform)]
        found = to_range(plain)
        return Turned(found) if len(plain) < len(transforms) else found

    def read_turned(memory, key, where, *rest, **more):
        value, *about = read(memory, key, tuple(where), *rest, **more)
        return (value.T if isinstance(where, Turned) else value), *about

    one_at_a_time, evaluate = threading.Lock(), jax.jit(jax.core.eval_jaxpr, static_argnums=0)

    def run_compiled(jaxpr, consts, *args):
        with one_at_a_time:
            compiled = evaluate.trace(jaxpr, consts, *args).lower().compile()
        compiled(consts, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "to_range", to_range_or_turned)
        patch.setattr(GPUSharedMemory, "get_buffer_content", read_turned)
        patch.setattr(thread_map, "_run_jaxpr", run_compiled)
        yield


def lowered(name, function, *operands):
    """The program that is really lowered for a platform."""
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(MESHES[name]):
        warnings.simplefilter("ignore")
        traced = jax.jit(function).trace(*operands)
        return traced.lower(lowering_platforms=(PLATFORMS[name],)).as_text()


def calls(text):
    """Targets of the custom calls in a program."""
    return re.findall(r"custom_call @([\w.$]+)", text)


def custom_calls(name, function, *operands):
    return calls(lowered(name, function, *operands))
