"""What a backward pass costs: operations of a layer, dense against sparse, counted from shapes.

A product of sizes a x b x c is a * b * c multiply-adds, two floating point operations each. The
backward pass of a layer `h = x W` with R rows, I inputs and O outputs has two of them,
dx = g W^T and dW = x^T g. With K of O entries kept per row:

    kind       needed, per product    executed, per product
    dense      2 R O I                2 R O I
    masked     2 R K I                2 R O I        per example: a zero costs as much as any number
    union      2 R K I                2 R (R K) I    per example, over the union of the rows' columns
    unified    2 R K I                2 R K I        columns shared by all rows

The gap between *needed* and *executed* is why per-example selection saves no time on dense hardware
unless K is tiny. Not counted, because it is the same for all: the bias gradient, activations, and
the optimizer.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

KINDS = ("dense", "masked", "union", "unified")


class Layer(NamedTuple):
    """A layer as the rule that acts on it sees it.

    A convolution is a product too. For a selection per example, rows are examples and outputs all
    H * W * C entries; for shared columns, rows are positions and outputs channels. Inputs are the
    entries under one filter; taps that fall into padding are counted.

    Attributes:
      path: '/'-joined path of the kernel.
      inputs: I, multiplied for one output entry.
      outputs: O, entries of a row.
      rows: R, rows of one backward pass.
      kept: K, entries kept per row; O for plain backpropagation.
      kind: one of `KINDS`, how the products are executed.
      memory: entries of the layer's memory, 0 without one.
      input_gradient: whether dx is computed; it is not for a layer that reads the data.
    """

    path: str
    inputs: int
    outputs: int
    rows: int
    kept: int
    kind: str
    memory: int = 0
    input_gradient: bool = True


class FlopCount(NamedTuple):
    """Floating point operations of one backward pass.

    Attributes:
      dense: both products of plain backpropagation.
      needed: both products, over the kept entries only.
      executed: both products, as the library runs them.
      selection: magnitudes, scores and comparisons, an upper bound.
      memory: arithmetic on the memory.
    """

    dense: int
    needed: int
    executed: int
    selection: int
    memory: int

    @property
    def total(self) -> int:
        """All that is executed: products, selection and memory."""
        return self.executed + self.selection + self.memory

    @property
    def reduction(self) -> float:
        """dense / total; below 1 where the sparse pass executes more than the dense one."""
        return self.dense / self.total if self.total else 1.0


def layer_of(shape: Any, input_gradient: bool = True) -> Layer:
    """The record of a layer that an adapter reports, such as `backward.linen`'s `layers`.

    How many entries the rule keeps is measured: it selects once from a single row without zeros.

    Args:
      shape: anything with `path`, `kind` ("dense" or "conv"), `rows`, `inputs`, `output_shape`,
        `positions`, `rule` and perhaps `groups`; the products of a grouped convolution stay dense.
      input_gradient: whether dx is computed for this layer.

    Returns:
      A `Layer`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> from sparsetrain import backward
      >>> model = backward.linen.sparsify(nn.Dense(500), {"kernel": backward.top_k(density=0.04)})
      >>> layer_of(model.layers(jax.random.key(0), jnp.zeros((32, 784)))[0])[1:6]
      (784, 500, 32, 20, 'masked')
    """
    rule, convolution = shape.rule, shape.kind == "conv"
    rows, outputs = shape.rows, math.prod(shape.output_shape)
    if rule is None or rule.shares_columns:
        rows *= shape.positions
    else:
        outputs *= shape.positions
    if rule is None:
        return Layer(shape.path, shape.inputs, outputs, rows, outputs, "dense", 0, input_gradient)
    row = 1 + jnp.arange(outputs, dtype=jnp.float32)[None] / outputs
    kept = int(jnp.count_nonzero(rule.select(row, rule.init((outputs,), 1), rows=1).values))
    memory = jax.eval_shape(lambda: rule.init((outputs,), rows))
    if kept == outputs:
        kind = "dense"
    elif rule.shares_columns and getattr(shape, "groups", 1) == 1:
        kind = "unified"
    elif convolution or rule.width(outputs, rows) is None:
        kind = "masked"
    else:
        kind = "union"
    entries = 0 if memory is None else memory.size
    return Layer(shape.path, shape.inputs, outputs, rows, kept, kind, entries, input_gradient)


def backward_flops(layer: Layer) -> FlopCount:
    """Floating point operations of one layer's backward pass.

        products    2 P R C I    P = 2 (1 without dx); C = O dense, K needed, executed as above
        selection   per example  R O (1 + ceil(log2(K + 1)))    magnitudes; a heap of K at its worst
                    unified      2 R O + O ceil(log2(K + 1))    magnitudes, their sums; one heap
        memory      mean         2 R O + 5 O    added to each row; remainders summed; O-sized rest
                    slot         3 R O          added, scaled, corrected
                    a counter    1

    Args:
      layer: shapes and kind.

    Returns:
      Counts in single operations, not in multiply-adds.

    Raises:
      ValueError: an unknown kind, sizes below 1, or a kept count outside 1..O.

    Differs from the paper:
      1. Its Table 1 gives orders, O(mk + n log k), with input and output sizes interchanged; these
         are counts, and O log K.
      2. Columns drawn at random need no scores; they are counted as if they did.

    Reference: Zhang et al., Memorized Sparse Backpropagation (arXiv 1905.10194), Table 1.

    Example:
      >>> count = backward_flops(Layer("hidden/kernel", 784, 500, rows=32, kept=20, kind="unified"))
      >>> count.dense, count.executed, count.selection, round(count.reduction, 1)
      (50176000, 2007040, 34500, 24.6)
    """
    rows, inputs, outputs, kept = layer.rows, layer.inputs, layer.outputs, layer.kept
    if layer.kind not in KINDS:
        raise ValueError(f"kind={layer.kind!r}: choose one of {KINDS}")
    if min(rows, inputs, outputs) < 1 or not 1 <= kept <= outputs:
        raise ValueError(f"{layer}: sizes must be at least 1 and kept lie in 1..outputs")
    if layer.kind == "dense" and kept != outputs:
        raise ValueError(f"{layer}: a dense layer keeps all {outputs} outputs, not {kept}")
    products = 2 if layer.input_gradient else 1

    def product(columns: int) -> int:
        return products * 2 * rows * columns * inputs

    columns = {"dense": outputs, "masked": outputs, "union": rows * kept, "unified": kept}
    heap = math.ceil(math.log2(kept + 1))
    selection = {
        "dense": 0,
        "masked": rows * outputs * (1 + heap),
        "union": rows * outputs * (1 + heap),
        "unified": 2 * rows * outputs + outputs * heap,
    }
    if layer.kind == "dense" or layer.memory == 0:
        memory = 0
    elif layer.memory == outputs:
        memory = 2 * rows * outputs + 5 * outputs
    else:
        memory = 3 * rows * outputs if layer.memory == rows * outputs else layer.memory
    return FlopCount(
        product(outputs),
        product(kept),
        product(columns[layer.kind]),
        selection[layer.kind],
        memory,
    )


def total_flops(layers: Iterable[Layer]) -> FlopCount:
    """Sum over layers.

    Args:
      layers: any number of records.

    Returns:
      The sums of all five counts.

    Example:
      >>> layer = Layer("output/kernel", 500, 10, rows=32, kept=10, kind="dense")
      >>> total_flops([layer, layer]).dense == 2 * backward_flops(layer).dense
      True
    """
    counts = [backward_flops(layer) for layer in layers]
    return (
        FlopCount(*(sum(column) for column in zip(*counts, strict=True)))
        if counts
        else FlopCount(0, 0, 0, 0, 0)
    )
