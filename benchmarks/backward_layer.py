"""Backward pass of one layer: from the output's gradient to dx, dW and the new memory."""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import program
from benchmarks.candidate import Candidate
from sparsetrain import backward

BUFFERS = 4  # different inputs, taken in turn
FRESH, IN_PLACE = "fresh dW", "dW in place"
DECAY = 0.8
_CONTRACT = (((1,), (0,)), ((), ()))


class LayerCase(NamedTuple):
    """A layer: B rows, I inputs, O outputs, k entries or columns kept."""

    rows: int
    inputs: int
    outputs: int
    kept: int

    @property
    def title(self) -> str:
        """How tables and results name it."""
        return f"layer {self.inputs}->{self.outputs}, B={self.rows}, k={self.kept}"

    @property
    def density(self) -> float:
        """Fraction of the outputs that is kept."""
        return self.kept / self.outputs

    @property
    def kernel_bytes(self) -> int:
        """Size of the kernel in float32."""
        return 4 * self.inputs * self.outputs


# The first two are layers of the paper's MLP (h = 500), the next two of its Table 5 (h = 5000).
CASES = (
    LayerCase(32, 500, 500, 20),
    LayerCase(32, 784, 500, 20),
    LayerCase(32, 5000, 5000, 5),
    LayerCase(32, 5000, 5000, 10),
    LayerCase(128, 1024, 4096, 164),
    LayerCase(1024, 500, 500, 20),
)
QUICK_CASES = (LayerCase(4, 24, 32, 2),)


class Operands(NamedTuple):
    """Several inputs x [B, I] and output gradients g [B, O], and one kernel in both layouts."""

    x: list[jax.Array]
    g: list[jax.Array]
    kernel: jax.Array  # [I, O], linen's layout
    turned: jax.Array  # [O, I]


def operands(case: LayerCase) -> Operands:
    """Random operands; columns of g differ in size, as those of a network do."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    sizes = rng.exponential(1.0, (1, case.outputs)).astype(np.float32)
    x = [jnp.asarray(normal(case.rows, case.inputs)) for _ in range(BUFFERS)]
    g = [jnp.asarray(normal(case.rows, case.outputs) * sizes) for _ in range(BUFFERS)]
    kernel = normal(case.inputs, case.outputs)
    return Operands(x, g, jnp.asarray(kernel), jnp.asarray(np.ascontiguousarray(kernel.T)))


def candidates(case: LayerCase, wanted: str = "") -> Iterator[Candidate]:
    """The rows of a layer's table, built one after the other.

    Args:
      case: the layer.
      wanted: regular expression; rows that are no baseline are left out unless it is found.
    """
    data = operands(case)
    for layout in ("in_out", "out_in"):
        for kind in (FRESH, IN_PLACE):
            yield _dense(case, data, layout, kind)
    for name, rule, row_layout in _table(case):
        if re.search(wanted, name):
            yield _ours(case, data, name, rule, row_layout)
    for kind in (FRESH, IN_PLACE):
        yield _flax(case, data, f"nn.Dense, plain, {kind}", None, kind=kind)
    unified = backward.unified_top_k(case.density, DECAY)
    for form, row_layout in (
        ("row-sparse in_out", "in_out"),
        ("row-sparse out_in", "out_in"),
        ("dense dW", None),
    ):
        name = f"nn.Dense, unified + memory, {form}"
        if re.search(wanted, name):
            yield _flax(case, data, name, unified, row_layout)


def _table(case: LayerCase) -> Iterator[tuple[str, Any, str | None]]:
    """(name, rule, layout of a kernel with row-sparse gradients or None for dense dW)."""
    unified = functools.partial(backward.unified_top_k, case.density)
    memorized = functools.partial(backward.memorized_top_k, case.density, DECAY)
    top = backward.top_k(case.density)
    yield "unified + memory, row-sparse out_in", unified(DECAY), "out_in"
    yield "unified, row-sparse out_in", unified(), "out_in"
    yield "unified l2 + memory, row-sparse out_in", unified(DECAY, "l2"), "out_in"
    yield "unified + memory, row-sparse in_out", unified(DECAY), "in_out"
    yield "unified + memory, dense dW", unified(DECAY), None
    yield "random_k, row-sparse out_in", backward.random_k(case.density, key=0), "out_in"
    groups = min(8, case.rows)
    grouped = backward.grouped_top_k(case.density, row_groups=groups, decay=DECAY)
    if grouped.width(case.outputs, case.rows) is None:
        yield f"grouped by {groups} + memory mask, dense dW", grouped, None
    else:
        # With a row a group it is a union of rows' choices like the others.
        form = " union" if groups == case.rows else ""
        yield f"grouped by {groups} + memory{form}, row-sparse out_in", grouped, "out_in"
    form = "mask"
    if top.width(case.outputs, case.rows) is not None:
        form = "union"
        yield "top_k union, row-sparse out_in", top, "out_in"
        yield "memorized union, row-sparse out_in", memorized(), "out_in"
        yield "memorized union, row-sparse in_out", memorized(), "in_out"
    yield f"top_k {form}, dense dW", top, None
    yield f"memorized {form}, dense dW", memorized(), None
    yield f"memorized slot {form}, dense dW", memorized(memory="slot"), None


def _dense(case: LayerCase, data: Operands, layout: str, kind: str) -> Candidate:
    """The two products of plain backpropagation, dW in memory that is new or that is used again."""
    name = f"dense {layout}, {kind}"
    straight = layout == "in_out"

    def products(x: jax.Array, g: jax.Array, kernel: jax.Array, old: Any) -> Any:
        del old  # its memory is what is wanted
        return (x.T @ g, g @ kernel.T) if straight else (g.T @ x, g @ kernel)

    kernel = data.kernel if straight else data.turned
    # keep_unused: jit drops an argument that is not read, and its donation with it.
    donated = kind == IN_PLACE
    held = [jnp.zeros_like(kernel) if donated else None]
    jitted = jax.jit(products, donate_argnums=3, keep_unused=True)
    compiled = jitted.lower(data.x[0], data.g[0], kernel, held[0]).compile()
    facts = program.read(compiled, (kernel.shape,))
    in_place = case.kernel_bytes if donated else 0
    program.require(facts, name, products=2, in_place=in_place, copies=0)

    def run(number: int) -> Any:
        i = number % BUFFERS
        dkernel, dx = compiled(data.x[i], data.g[i], kernel, held[0])
        if donated:
            held[0] = dkernel
        return dkernel, dx

    return Candidate(name, run, "layer", baseline=kind, program=facts)


def _ours(
    case: LayerCase, data: Operands, name: str, rule: Any, layout: str | None = None
) -> Candidate:
    """`sparse_dot_general`'s backward pass; without a layout, dW is dense and in place."""
    axis = 0 if layout == "out_in" else 1
    kernel = data.turned if layout == "out_in" else data.kernel
    memory = rule.init((case.outputs,), case.rows)
    tap, old = None, None
    if layout is None:
        old = jnp.zeros_like(kernel)
    else:
        width = rule.width(case.outputs, case.rows)
        tap = backward.row_sparse.RowSparse.tap(case.inputs, width, jnp.float32, axis)

    def step(x: jax.Array, g: jax.Array, kernel: jax.Array, memory: Any, tap: Any, old: Any) -> Any:
        del old

        def product(x: jax.Array, kernel: jax.Array, memory: Any, tap: Any) -> jax.Array:
            matrix = kernel.T if axis == 0 else kernel
            return backward.sparse_dot_general(x, matrix, memory, _CONTRACT, rule, tap=tap)

        dx, dkernel, increment, dtap = jax.vjp(product, x, kernel, memory, tap)[1](g)
        memory = None if memory is None else memory + increment
        if dtap is None:
            return dx, memory, dkernel, None
        return dx, memory, dtap.settled().values, dtap.settled().columns

    jitted = jax.jit(step, donate_argnums=(3, 5), keep_unused=True)
    compiled = jitted.lower(data.x[0], data.g[0], kernel, memory, tap, old).compile()
    facts = program.read(compiled, (kernel.shape,))
    in_place = (0 if memory is None else memory.nbytes) + (0 if old is None else case.kernel_bytes)
    # On a CPU a union of rows' choices is not multiplied but summed entry by entry.
    products = 0 if _sums_entries(name) else 2
    copies = None if tap is None else 0
    _require(facts, name, products=products, in_place=in_place, copies=copies)
    held = [memory, old]

    def run(number: int) -> Any:
        i = number % BUFFERS
        out = compiled(data.x[i], data.g[i], kernel, held[0], tap, held[1])
        held[0] = out[1]
        if tap is None:
            held[1] = out[2]
        return out

    return Candidate(name, run, "layer", against=(FRESH, IN_PLACE), program=facts)


def _flax(
    case: LayerCase,
    data: Operands,
    name: str,
    rule: Any,
    layout: str | None = None,
    kind: str = "",
) -> Candidate:
    """The backward pass of an `nn.Dense` with bias, plain (rule None) or through `sparsify`."""
    model: Any = nn.Dense(case.outputs)
    if rule is not None:
        options = {} if layout is None else {"row_sparse": True, "kernel_layout": layout}
        model = backward.linen.sparsify(model, {"kernel": rule}, **options)
    variables = dict(model.init(jax.random.key(0), data.x[0]))
    params = variables.pop("params")
    memory, taps = variables.get("memory", {}), variables.get("row_sparse", {})
    old = jnp.zeros_like(params["kernel"]) if layout is None and kind != FRESH else None

    def step(x: jax.Array, g: jax.Array, params: Any, memory: Any, taps: Any, old: Any) -> Any:
        del old

        def outputs(x: jax.Array, params: Any, memory: Any, taps: Any) -> jax.Array:
            variables = {"params": params}
            if rule is not None:
                variables |= {"memory": memory, "row_sparse": taps} if taps else {"memory": memory}
            return model.apply(variables, x)

        dx, dparams, increment, dtaps = jax.vjp(outputs, x, params, memory, taps)[1](g)
        memory = jax.tree.map(jnp.add, memory, increment)
        dkernel = dtaps["kernel"].settled() if taps else dparams["kernel"]
        return dx, memory, dkernel, dparams["bias"]

    jitted = jax.jit(step, donate_argnums=(3, 5), keep_unused=True)
    compiled = jitted.lower(data.x[0], data.g[0], params, memory, taps, old).compile()
    facts = program.read(compiled, (params["kernel"].shape,))
    in_place = 0 if old is None else case.kernel_bytes
    if rule is None:
        program.require(facts, name, products=2, in_place=in_place, copies=0)
    else:
        copies = None if layout is None else 0
        _require(facts, name, products=2, in_place=in_place, copies=copies)
    held = [memory, old]

    def run(number: int) -> Any:
        i = number % BUFFERS
        out = compiled(data.x[i], data.g[i], params, held[0], taps, held[1])
        held[0] = out[1]
        if old is not None:
            held[1] = out[2]
        return out

    against = () if kind else (FRESH, IN_PLACE)
    return Candidate(name, run, "nn.Dense", kind, against, program=facts)


def _sums_entries(name: str) -> bool:
    return jax.default_backend() == "cpu" and name.endswith("union, row-sparse out_in")


def _require(
    facts: program.Program, name: str, *, products: int, in_place: int, copies: int | None
) -> None:
    """On CPU a selection is a TopK call; what other platforms make of it is only recorded."""
    selects = jax.default_backend() == "cpu"
    program.require(
        facts,
        name,
        products=products,
        selects=selects,
        in_place=in_place,
        copies=copies if selects else None,
    )
