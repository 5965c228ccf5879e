import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import program

ON_CPU = jax.default_backend() == "cpu"


def compiled(function, *arguments, **options):
    return jax.jit(function, **options).lower(*arguments).compile()


def test_products_that_nobody_reads_are_missed():
    x = jnp.ones((8, 8))
    both = program.read(compiled(lambda x: (x @ x, x.T @ x), x))
    one = program.read(compiled(lambda x: ((x @ x, x.T @ x)[0],), x))
    assert (both.products, one.products) == (2, 1)
    program.require(both, "both", products=2)
    with pytest.raises(RuntimeError, match="one: 1 of 2 products are left"):
        program.require(one, "one", products=2)


@pytest.mark.skipif(
    not ON_CPU or jax.__version_info__ >= (0, 11),
    reason="the rewrite to a sort is that of XLA's CPU backend up to JAX 0.10",
)
def test_the_slice_of_values_that_becomes_a_sort_is_seen():
    x = jnp.ones((4, 64))
    heap = program.read(compiled(lambda x: lax.top_k(x, 3)[1], x))
    trap = program.read(compiled(lambda x: lax.top_k(x, 3)[0][..., -1:], x))
    program.require(heap, "heap", products=0, selects=True)
    assert heap.sorts == 0
    assert trap.sorts == 1
    with pytest.raises(RuntimeError, match="full sorts"):
        program.require(trap, "trap", products=0, selects=True)


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_donation_of_an_argument_that_is_not_read_is_seen_to_be_ignored():
    def function(x, old):
        return x @ x

    x, old = jnp.ones((8, 8)), jnp.ones((8, 8))
    ignored = program.read(compiled(function, x, old, donate_argnums=1))
    used = program.read(compiled(function, x, old, donate_argnums=1, keep_unused=True))
    program.require(used, "used", products=1, in_place=256)
    assert used.alias_bytes == 256
    with pytest.raises(RuntimeError, match="0 of 256 bytes are in place"):
        program.require(ignored, "ignored", products=1, in_place=256)


@pytest.mark.skipif(not ON_CPU, reason="where a copy is made is the platform's choice")
def test_copies_of_a_watched_shape_count_in_both_orders():
    x = jnp.ones((8, 16))
    turned = compiled(lambda x: x.T, x)
    assert program.read(turned, ((8, 16),)).copies >= 1
    assert program.read(turned, ((4, 4),)).copies == 0
    with pytest.raises(RuntimeError, match="copies of a kernel"):
        program.require(program.read(turned, ((16, 8),)), "turned", products=0, copies=0)
