"""What the compilers of an H200 and of a TPU make of every hot path, on a machine that has neither.

    python -m benchmarks.kernels_compiled --device=h200       wants  pip install 'jax[cuda12]'
    python -m benchmarks.kernels_compiled --device=tpu        wants  pip install libtpu

XLA, Mosaic and ptxas compile for a device that is only described. Nothing runs; what is read are copies, sorts and
scratch memory in the optimised program, and registers and spills in the kernels.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import command, kernels_step, machine
from benchmarks.kernels_described import (
    DUMPS,
    KINDS,
    PLATFORMS,
    built,
    described,
    modules,
    run_with_libcuda,
)
from benchmarks.kernels_selection import DENSITY, _block_step, _exact_step
from sparsetrain import kernels, selection
from sparsetrain.backward.row_sparse.gradient import RowSparse
from sparsetrain.kernels.block_column_matmul import shapes as column_shapes
from sparsetrain.kernels.block_sparse_matmul import shapes as sparse_shapes
from sparsetrain.kernels.block_top_k_feedback import shapes as block_shapes
from sparsetrain.selection import mask

LARGE = 1 << 20  # bytes; smaller copies cost nothing


class Path(NamedTuple):
    """A hot path: what is traced, trees of the shapes that it is given, and which of these are given away."""

    name: str
    function: Callable[..., Any]
    operands: tuple[Any, ...]
    donated: tuple[int, ...] = ()


def paths() -> Iterator[Path]:
    """All of them, at the sizes that the benchmark takes."""
    entries, block, k = block_shapes.RESNET50
    whole, narrow = _like(entries), _like(entries, jnp.bfloat16)
    odd = _like(entries + 7)

    def split(g: jax.Array, m: jax.Array) -> Any:
        return _block_step(g, m, k=k, block=block)

    def apply(m: jax.Array, g: jax.Array, pattern: jax.Array, last: jax.Array) -> Any:
        u = m + g
        is_kept = mask.kept(u, pattern, last)
        return jnp.where(is_kept, 0, u), jnp.where(is_kept, u, 0)

    def exact(g: jax.Array, m: jax.Array) -> Any:
        return _exact_step(g, m, k=round(DENSITY * entries))

    yield Path("block_top_k_feedback", split, (whole, whole), (1,))
    yield Path("block_top_k_feedback, bfloat16", split, (narrow, whole), (1,))
    yield Path("block_top_k_feedback, shorter last block", split, (odd, odd), (1,))
    yield Path("count_above", kernels.count_above, (whole, _like(15, jnp.int32)))
    yield Path("exact top-k of all, feedback", exact, (whole, whole), (1,))
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    yield Path("threshold and residual (XLA)", apply, (whole, whole, scalar, scalar), (0,))
    rows, outputs, inputs, block, kept = column_shapes.TENTH
    g, x, w, blocks = (
        _like(rows, outputs, jnp.bfloat16),
        _like(rows, inputs, jnp.bfloat16),
        _like(outputs, inputs, jnp.bfloat16),
        _like(kept, jnp.int32),
    )
    yield Path("column scores (XLA)", selection.column_scores, (g,))
    few = kept * block
    yield Path(
        "row update (XLA)",
        lambda kernel, values, columns: kernel + RowSparse(values, columns, None, 0),
        (_like(outputs, inputs), _like(few, inputs), _like(few, jnp.int32)),
        (0,),
    )
    for axis in (0, 1):
        w_there = w if axis == 0 else _like(inputs, outputs, jnp.bfloat16)

        def dx(g: jax.Array, w: jax.Array, b: jax.Array, axis: int = axis) -> jax.Array:
            return kernels.block_column_matmul(g, w, b, block=block, axis=axis)

        def dw(g: jax.Array, x: jax.Array, b: jax.Array, axis: int = axis) -> jax.Array:
            return kernels.block_column_outer(g, x, b, block=block, axis=axis)

        yield Path(f"block_column_matmul, axis {axis}", dx, (g, w_there, blocks))
        yield Path(f"block_column_outer, axis {axis}", dw, (g, x, blocks))
    for shape in (sparse_shapes.TENTH, sparse_shapes.TENTH_NARROW):
        rows, inputs, outputs, block, _ = shape
        yield Path(
            f"block_sparse_matmul and gradients, blocks of {block}",
            _with_gradients,
            (
                _like(rows, inputs, jnp.bfloat16),
                _like(inputs, outputs, jnp.bfloat16),
                _like(inputs // block, outputs // block, jnp.bool_),
            ),
        )
    sizes = kernels_step.TARGET
    batch = tuple(_like(sizes.rows, n, jnp.bfloat16) for n in (sizes.inputs, sizes.outputs))
    for name, each in kernels_step.steps(sizes).items():
        yield Path(f"training step, {name}", each.step, (jax.eval_shape(each.start), batch), (0,))


def run(device: str) -> dict[str, Any]:
    """Compiles all paths and prints what came of it.

    Args:
      device: "h200" or "tpu".

    Returns:
      The record that is written as JSON.

    Raises:
      RuntimeError: the compiler is not installed; says how it is.
    """
    place = jax.sharding.SingleDeviceSharding(described(device))
    kind = jax.sharding.AbstractDevice(
        device_kind=KINDS[device],
        num_cores=1 if device == "tpu" else 132,
        platform="tpu" if device == "tpu" else "gpu",
    )
    rows = []
    for path in paths():
        placed = jax.tree.map(
            lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=place), path.operands
        )
        with jax.sharding.use_abstract_mesh(
            jax.sharding.AbstractMesh((), (), abstract_device=kind)
        ):
            traced = jax.jit(path.function, donate_argnums=path.donated).trace(*placed)
            lowered = traced.lower(lowering_platforms=(PLATFORMS[device],))
        compiled = lowered.compile()
        row = {"name": path.name, **facts(compiled.as_text())}
        row["scratch_bytes"] = compiled.memory_analysis().temp_size_in_bytes
        row["kernels"] = [built(module) for module in modules(lowered)] if device == "h200" else []
        rows.append(row)
        print(line(row), flush=True)
    return {
        "benchmark": "kernels_compiled",
        "device": KINDS[device],
        "machine": machine.describe(),
        "rows": rows,
    }


def facts(text: str) -> dict[str, int]:
    """What a program's text says of itself.

    Args:
      text: optimised HLO.

    Returns:
      calls: kernels of ours; fusions: of XLA, in the entry; copies: of large arrays, in the entry; sorts.

    Example:
      >>> facts('ENTRY %main {\\n %c = f32[9000,900]{1,0} copy(%x)\\n ROOT %f = f32[2]{0} fusion(%c)\\n}')
      {'calls': 0, 'fusions': 1, 'copies': 1, 'sorts': 0}
    """
    entry = text[text.index("ENTRY") :]
    plain = re.findall(r"= (\w+)\[([\d,]*)\]\S* (?:copy|transpose)\(", entry)
    fused = r"= (\w+)\[([\d,]*)\]\S* fusion\(.*calls=%wrapped_(?:copy|transpose)"
    copies = plain + re.findall(fused, entry)
    return {
        "calls": len(re.findall(r'custom_call_target="(?:mosaic_gpu_v2|tpu_custom_call)"', text)),
        "fusions": len(re.findall(r" fusion\(", entry)),
        "copies": sum(_bytes(*copy) >= LARGE for copy in copies),
        "sorts": len(re.findall(r" sort\(", entry)),
    }


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = (
        f"{row['name']:52s} {row['calls']} calls {row['fusions']:2d} fusions {row['copies']} copies"
    )
    told = "; ".join(
        f"{each['registers']} registers, {each['spilled_bytes']} bytes spilled"
        for each in row["kernels"]
    )
    return f"{head} {row['scratch_bytes'] / 1e6:7.1f} MB scratch   {told}"


def _like(*shape: Any) -> jax.ShapeDtypeStruct:
    """Of these sizes; a dtype may stand last."""
    sizes = tuple(each for each in shape if isinstance(each, int))
    return jax.ShapeDtypeStruct(sizes, jnp.float32 if len(sizes) == len(shape) else shape[-1])


def _with_gradients(x: jax.Array, w: jax.Array, live: jax.Array) -> Any:
    y, pull = jax.vjp(lambda x, w: kernels.block_sparse_matmul(x, w, live), x, w)
    return y, pull(y)


def _bytes(dtype: str, sizes: str) -> int:
    total = int(re.sub(r"\D", "", dtype) or 8) // 8
    for size in filter(None, sizes.split(",")):
        total *= int(size)
    return total


def main() -> None:
    """The command line."""
    parser = command.parser(__doc__)
    parser.add_argument("--device", choices=sorted(KINDS), required=True)
    options = parser.parse_args()
    if options.device == "h200" and DUMPS not in os.environ:
        sys.exit(run_with_libcuda("benchmarks.kernels_compiled"))
    record = run(options.device)
    command.save(record, options.out, f"kernels_compiled_{options.device}.json", is_whole=True)


if __name__ == "__main__":
    main()
