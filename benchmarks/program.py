"""What a compiled program really does: nothing was optimised away, no trap of XLA's is in it."""

import re
from typing import Any, NamedTuple


class Program(NamedTuple):
    """Facts read from an optimised program.

    Attributes:
      products: matrix products in it.
      top_ks: heap selections.
      sorts: full sorts; on CPU one of them costs 10 to 65 selections.
      copies: copies or transposes of an array of a watched shape.
      temp_bytes: scratch memory.
      alias_bytes: outputs that are written into donated inputs.
    """

    products: int
    top_ks: int
    sorts: int
    copies: int
    temp_bytes: int
    alias_bytes: int


def read(compiled: Any, watched: tuple[tuple[int, ...], ...] = ()) -> Program:
    """Facts of a program.

    Args:
      compiled: what `jax.jit(f).lower(...).compile()` returned.
      watched: shapes that must not be copied; both orders of a matrix's axes count.

    Returns:
      The facts; sizes are 0 on platforms that do not tell.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> f = jax.jit(lambda x: jax.lax.top_k(x @ x, 2)[1])
      >>> facts = read(f.lower(jnp.ones((4, 4))).compile())
      >>> facts.products, facts.sorts
      (1, 0)
    """
    text = compiled.as_text()
    copies = 0
    for shape in watched:
        for order in {shape, shape[::-1]}:
            dims = ",".join(map(str, order))
            copies += len(re.findall(rf"= f32\[{dims}\]\S* (?:copy|transpose)\(", text))
    sizes = compiled.memory_analysis()
    return Program(
        products=len(re.findall(r" dot\(|__onednn\$matmul|__cublas\$\w*gemm|__cublas\$lt", text)),
        top_ks=len(re.findall(r'custom_call_target="[^"]*TopK"|\btopk\(', text)),
        sorts=len(re.findall(r" sort\(", text)),
        copies=copies,
        temp_bytes=getattr(sizes, "temp_size_in_bytes", 0),
        alias_bytes=getattr(sizes, "alias_size_in_bytes", 0),
    )


def require(
    program: Program,
    name: str,
    *,
    products: int,
    selects: bool = False,
    in_place: int = 0,
    copies: int | None = None,
) -> None:
    """Refuses to time a program that is not what its name says.

    Args:
      program: facts of it.
      name: what it is called in the table.
      products: matrix products that must be left in it, at least.
      selects: whether it must hold a top-k, and no sort.
      in_place: bytes that must be written into donated inputs, at least.
      copies: watched copies allowed; None for any number.

    Raises:
      RuntimeError: names the candidate and what is wrong.
    """
    faults = []
    if program.products < products:
        faults.append(f"{program.products} of {products} products are left (dead code?)")
    if selects and not program.top_ks:
        faults.append("no TopK in it")
    if selects and program.sorts:
        faults.append(f"{program.sorts} full sorts")
    if program.alias_bytes < in_place:
        faults.append(f"{program.alias_bytes} of {in_place} bytes are in place (donation ignored?)")
    if copies is not None and program.copies > copies:
        faults.append(f"{program.copies} copies of a kernel")
    if faults:
        raise RuntimeError(f"{name}: {'; '.join(faults)}; its time would mean something else")
