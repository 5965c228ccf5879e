"""Devices that are only described, and the interpreters that stand in for them."""

import contextlib
import re
import warnings

import jax
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
    """Options with which a kernel runs here, races looked for."""
    if name == dispatch.TPU:
        yield {"interpret": pltpu.InterpretParams(detect_races=True)}
        return
    with jax.sharding.use_abstract_mesh(H200):
        yield {"interpret": InterpretGPUParams(detect_races=True)}


def custom_calls(name, function, *operands):
    """Targets of the custom calls in a program that is really lowered for a platform."""
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(MESHES[name]):
        warnings.simplefilter("ignore")
        traced = jax.jit(function).trace(*operands)
        text = traced.lower(lowering_platforms=(PLATFORMS[name],)).as_text()
    return re.findall(r"custom_call @([\w.$]+)", text)
