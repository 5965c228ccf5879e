"""Which implementation of an operation runs: chosen by the device that a program is made for, or by name."""

import contextlib
import importlib
import types
from typing import Any, NamedTuple

import jax

XLA, MOSAIC_GPU, TPU = IMPLEMENTATIONS = ("xla", "mosaic_gpu", "tpu")
# Of an operation's folder.
_MODULES = {XLA: "reference", MOSAIC_GPU: "mosaic_gpu", TPU: "tpu"}
HOPPER = 9.0  # compute capability from which Mosaic GPU has its instructions
# Of devices that are only described, the capability is known by name.
_CAPABILITIES = {"H100": 9.0, "H200": 9.0, "GH200": 9.0, "H800": 9.0, "B200": 10.0, "GB200": 10.0}


_preference: Any = jax.make_user_context(default_value=None)


def prefer(implementation: str | None) -> contextlib.AbstractContextManager[Any]:
    """What None means inside: XLA everywhere, or a kernel wherever operands fit it.

    A function that was compiled outside is compiled anew inside. With several devices visible a kernel is
    chosen only if it is preferred here, for XLA cannot split it over them, see `may_be_split`.

    Args:
      implementation: "xla", "mosaic_gpu", "tpu"; None for what the device decides.

    Returns:
      A context, for `with`.

    Raises:
      ValueError: an unknown name. One that cannot run here is refused where it would be called.

    Example:
      >>> with prefer("xla"):
      ...     choose(None, ("mosaic_gpu", "tpu"))
      'xla'
    """
    if implementation is not None:
        _check_name(implementation)
    return _preference(implementation)


class Target(NamedTuple):
    """What a program is made for.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      kind: name of the device.
      capability: compute capability of a GPU; None where it is not known.
    """

    platform: str
    kind: str
    capability: float | None = None


def target() -> Target:
    """The device of the abstract mesh in use, if it names one; else the first of this process.

    Example:
      >>> device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
      >>> mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
      >>> with jax.sharding.use_abstract_mesh(mesh):
      ...     target()
      Target(platform='gpu', kind='NVIDIA H200', capability=9.0)
    """
    described = jax.sharding.get_abstract_mesh().abstract_device
    if described is None:
        device = jax.devices()[0]
        capability = getattr(device, "compute_capability", None)
        if capability is not None:
            capability = float(capability)
        return Target(_common(device.platform), device.device_kind, capability)
    kind = described.device_kind
    known = [_CAPABILITIES[word] for word in kind.split() if word in _CAPABILITIES]
    platform = getattr(described, "platform", None) or ("tpu" if "TPU" in kind else "gpu")
    return Target(_common(platform), kind, known[0] if known else None)


def may_be_split() -> bool:
    """Whether the compiler may have to split this program over devices, which it cannot do to a kernel.

    Inside `shard_map` every device runs its own program; anywhere else a process that sees several
    devices may have put operands on all of them, which is not known when the program is traced.

    Example:
      >>> may_be_split()
      False
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.axis_names:
        return mesh.size > 1 and not mesh.are_all_axes_manual
    return mesh.abstract_device is None and jax.device_count() > 1


def choose(implementation: str | None, kernels: tuple[str, ...], unfit: str | None = None) -> str:
    """The implementation to run.

    Args:
      implementation: "xla", "mosaic_gpu", "tpu"; or None for what is preferred, see `prefer`. Without
        a preference that is the kernel on a TPU and on a GPU that is known to be Hopper or later, and XLA
        elsewhere and where the program `may_be_split`.
      kernels: of the operation, beside XLA, that are quicker than XLA where they run.
      unfit: why these operands fit no kernel; None where they do.

    Returns:
      One of `IMPLEMENTATIONS`.

    Raises:
      ValueError: an unknown name, or a kernel that cannot run on this device or with these operands;
        the text says why and what to do.

    Example:
      >>> choose(None, ("tpu",)), choose("xla", ())
      ('xla', 'xla')
    """
    where = target()
    if implementation is not None:
        _check_name(implementation)
        obstacle = _obstacle(implementation, where) or (unfit if implementation != XLA else None)
        if obstacle is not None:
            raise ValueError(_refusal(implementation, obstacle))
        return implementation
    preferred = _preference.value
    if preferred is not None:
        obstacle = _obstacle(preferred, where)
        if obstacle is not None:
            raise ValueError(_refusal(preferred, obstacle))
        return preferred if preferred in kernels and unfit is None else XLA
    if may_be_split() or unfit is not None:
        return XLA
    return next((name for name in kernels if _obstacle(name, where) is None), XLA)


def module(package: str, chosen: str) -> types.ModuleType:
    """The module in an operation's folder that holds an implementation.

    Imported when it is first chosen: Pallas would be a third of what importing this library takes.

    Args:
      package: of the operation, `__name__` in its `__init__.py`.
      chosen: one of `IMPLEMENTATIONS`.

    Example:
      >>> module("sparsetrain.kernels.count_above", "xla").__name__
      'sparsetrain.kernels.count_above.reference'
    """
    return importlib.import_module(f"{package}.{_MODULES[chosen]}")


def _check_name(implementation: str) -> None:
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation={implementation!r}: give one of {', '.join(IMPLEMENTATIONS)}, or None to have it chosen"
        )


def _refusal(implementation: str, obstacle: str) -> str:
    return (
        f"implementation={implementation!r}: {obstacle}; give None, or 'xla', which runs everywhere"
    )


def _obstacle(name: str, where: Target) -> str | None:
    """Why an implementation cannot run there."""
    if name == XLA:
        return None
    if name == TPU:
        return None if where.platform == "tpu" else f"this is a {where.platform} ({where.kind})"
    if where.platform != "gpu":
        return f"this is a {where.platform} ({where.kind})"
    if where.capability is None:
        return (
            f"the compute capability of {where.kind!r} is not known, and Mosaic GPU needs {HOPPER}"
        )
    if where.capability < HOPPER:
        return (
            f"{where.kind} has compute capability {where.capability}, and Mosaic GPU needs {HOPPER}"
        )
    return None


def _common(platform: str) -> str:
    return "gpu" if platform in ("cuda", "rocm", "gpu") else platform
