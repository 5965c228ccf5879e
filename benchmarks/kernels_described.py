"""A GPU and a TPU that are only described, and the compilers that work for them without one.

For its kernels the CUDA plugin wants a libcuda to ask for the capability of the device: a C compiler makes one that
knows no other answer.
"""

import ctypes
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

from jax.experimental import topologies

KINDS = {"h200": "NVIDIA H200", "tpu": "TPU v5e"}
PLATFORMS = {"h200": "cuda", "tpu": "tpu"}
# As `stream_executor.GpuTargetConfigProto` has it: what XLA asks a device for.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
  memory_bandwidth: 4800000000000  device_memory_size: 151397597184  l2_cache_size: 52428800
  cuda_compute_capability { major: 9  feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536  registers_per_block_limit: 65536  device_address_bits: 64
  name: "NVIDIA H200"  driver_version: "13.0.0"  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9  minor: 10 }
device_description_str: "NVIDIA H200"
"""
# Of all that libcuda has, what is asked before a kernel is compiled. 75 and 76 are the two halves of the capability.
LIBCUDA = """
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 0; return 0; }
int cuDeviceGet(int *d, int i) { *d = 0; return 0; }
int cuCtxGetDevice(int *d) { *d = 0; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? 0 : a == 97 ? 232448 : 1; return 0; }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuGetErrorString(int e, const char **s) { *s = "no device"; return 0; }
int cuModuleLoadData(void **m, const void *i) { *m = (void *)1; return 0; }
int cuModuleGetFunction(void **f, void *m, const char *n) { *f = (void *)1; return 0; }
int cuFuncSetAttribute(void *f, int a, int v) { return 0; }
"""
DUMPS = "SPARSETRAINDUMPS"  # of the process that has such a libcuda: where Mosaic writes


def described(device: str) -> Any:
    """A device that compiles and does not exist.

    Args:
      device: "h200" or "tpu".

    Raises:
      RuntimeError: the compiler is not installed; says how it is.
    """
    try:
        if device == "h200":
            return topologies.get_topology_desc(
                "", platform="cuda", target_config=H200, topology="1x1x1"
            ).devices[0]
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or it looks for a TPU in the network
        return topologies.get_topology_desc(
            "v5e:1x1", platform="tpu", chips_per_host_bounds=[1, 1, 1]
        ).devices[0]
    except Exception as error:
        packages = {"h200": "'jax[cuda12]'", "tpu": "libtpu"}
        raise RuntimeError(
            f"no compiler for {KINDS[device]} here ({error}); in an environment of its own:  "
            f"pip install {packages[device]}"
        ) from error


def modules(lowered: Any) -> list[bytes]:
    """The Mosaic GPU kernels of a lowered program, as it carries them."""
    found: list[bytes] = []

    def visit(operation: Any) -> None:
        for region in operation.regions:
            for block in region:
                for each in block:
                    attributes = each.operation.attributes
                    is_call = "call_target_name" in attributes
                    if is_call and "mosaic_gpu" in str(attributes["call_target_name"]):
                        found.append(attributes["mhlo.backend_config"]["module"].value_bytes)
                    visit(each.operation)

    visit(lowered.compiler_ir("stablehlo").operation)
    return found


def built(module: bytes) -> dict[str, int]:
    """Registers of a thread and bytes that found none, of a Mosaic GPU kernel.

    Args:
      module: as the lowered program carries it.
    """
    folder = pathlib.Path(os.environ[DUMPS])
    plugin = importlib.import_module("jax_plugins.xla_cuda12")
    compile_kernel = ctypes.CDLL(str(plugin._get_library_path())).MosaicGpuCompile
    compile_kernel.argtypes, compile_kernel.restype = (
        [ctypes.c_char_p, ctypes.c_int],
        ctypes.c_void_p,
    )
    for old in folder.iterdir():
        old.unlink()
    if not compile_kernel(module, len(module)):
        raise RuntimeError("ptxas refused a kernel; its messages stand above")
    (report,) = [each.read_text() for each in folder.glob("*.ptxas")]
    registers = re.search(r"Used (\d+) registers", report)
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    if registers is None or spilled is None:
        raise RuntimeError(f"ptxas said nothing of registers: {report}")
    return {"registers": int(registers[1]), "spilled_bytes": int(spilled[1]) + int(spilled[2])}


def run_with_libcuda(module: str) -> int:
    """A command, with the arguments of this one, in a process that finds the libcuda above.

    Args:
      module: of the command.

    Returns:
      Its exit status. What it wrote to its standard error is shown only if it failed: the compiler misses a
      disassembler there for every kernel.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, dumps = pathlib.Path(folder) / "cuda.c", pathlib.Path(folder) / "dumps"
        source.write_text(LIBCUDA)
        dumps.mkdir()
        library = pathlib.Path(folder) / "libcuda.so.1"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        searched = f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"
        settings = {
            "LD_LIBRARY_PATH": searched,
            "JAX_PLATFORMS": "cpu",
            "MOSAIC_GPU_DUMP_PTXAS": "1",
            "MOSAIC_GPU_DUMP_TO": str(dumps),
            DUMPS: str(dumps),
        }
        arguments = [sys.executable, "-m", module, *sys.argv[1:]]
        errors = subprocess.PIPE
        done = subprocess.run(
            arguments, env=os.environ | settings, stderr=errors, text=True, check=False
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
        return done.returncode
