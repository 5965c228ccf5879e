"""What is read from a compiled program; the compilers of devices that are not here are no part of the tests."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from benchmarks import kernels_compiled, kernels_described
from tests.kernels import targets


def test_large_copies_and_sorts_are_seen(optimised):
    def program(x):
        return jnp.sort(x), jax.lax.optimization_barrier(x.reshape(1024, -1).T)

    text = jax.jit(program).lower(jnp.ones(1 << 19)).compile().as_text()
    found = kernels_compiled.facts(text)
    assert (found["sorts"], found["copies"], found["calls"]) == (1, 1, 0)


def test_every_hot_path_can_be_traced():
    names = [path.name for path in kernels_compiled.paths()]
    assert len(set(names)) == len(names) == 17
    for path in kernels_compiled.paths():
        jax.eval_shape(path.function, *path.operands)


def test_the_kernels_of_a_program_are_found():
    path = next(kernels_compiled.paths())
    with jax.sharding.use_abstract_mesh(targets.H200):
        lowered = jax.jit(path.function).trace(*path.operands).lower(lowering_platforms=("cuda",))
    (module,) = kernels_described.modules(lowered)
    assert module.startswith(b"ML\xefR")


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")),
    reason="compilers are installed",
)
@pytest.mark.parametrize(("device", "package"), [("h200", r"'jax\[cuda12\]'"), ("tpu", "libtpu")])
def test_without_a_compiler_it_says_which_to_install(device, package):
    with pytest.raises(RuntimeError, match=f"pip install {package}"):
        kernels_compiled.run(device)
