"""The traps of the CPU compiler, held shut: no sort, no copy of a kernel, no dense dW in the program."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from sparsetrain import backward
from sparsetrain.backward import row_sparse

ROWS, INPUTS, HIDDEN = 8, 96, 256
PATTERN = r"hidden.*/kernel"


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        for index in range(2):
            x = nn.relu(nn.Dense(HIDDEN, name=f"hidden_{index}")(x))
        return nn.Dense(10, name="output")(x)


@functools.cache
def compiled_step(rule, layout: str | None, optimizer: str):
    model = backward.linen.sparsify(
        Mlp(), {PATTERN: rule}, row_sparse=layout is not None, kernel_layout=layout or "out_in"
    )
    x, y = jnp.ones((ROWS, INPUTS)), jnp.zeros((ROWS,), jnp.int32)
    variables = model.init(jax.random.key(0), x)
    family = row_sparse if layout else optax
    tx = backward.carry_memory(getattr(family, optimizer)(1e-3))
    state = tx.init(variables)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables, state, x, y):
        def loss(variables):
            logits = model.apply(variables, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        grads = jax.grad(loss)(variables)
        updates, state = tx.update(grads, state, variables)
        return optax.apply_updates(variables, updates), state

    return step.lower(variables, state, x, y).compile()


RULES = {
    "top_k": backward.top_k(0.1),
    "memorized": backward.memorized_top_k(0.1, 0.8),
    "union": backward.memorized_top_k(2 / HIDDEN, 0.8),
    "unified": backward.unified_top_k(0.1),
    "unified memory": backward.unified_top_k(0.1, 0.8),
    "random": backward.random_k(0.1, key=0),
}
COMPACT = [name for name in RULES if name not in ("top_k", "memorized")]


@pytest.mark.parametrize("name", RULES)
def test_selection_is_the_top_k_call_and_no_sort(name: str) -> None:
    text = compiled_step(RULES[name], None, "adam").as_text()
    assert 'custom_call_target="TopK"' in text
    assert " sort(" not in text


@pytest.mark.parametrize("name", ["unified memory", "top_k"])
def test_bfloat16_selection_does_not_sort_either(name: str) -> None:
    rule = RULES[name]
    memory = rule.init((HIDDEN,))
    text = (
        jax.jit(lambda dh, memory: rule.select(dh, memory))
        .lower(jnp.ones((ROWS, HIDDEN), jnp.bfloat16), memory)
        .compile()
        .as_text()
    )
    assert 'custom_call_target="TopK"' in text and " sort(" not in text


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("name", COMPACT)
def test_row_sparse_step_copies_no_kernel(name: str, layout: str, optimizer: str) -> None:
    compiled = compiled_step(RULES[name], layout, optimizer)
    text = compiled.as_text()
    assert " sort(" not in text
    for inputs in (INPUTS, HIDDEN):
        shape = f"{HIDDEN},{inputs}" if layout == "out_in" else f"{inputs},{HIDDEN}"
        assert not re.search(rf"= f32\[{shape}\]\S* (copy|transpose)\(", text), shape
    # Temporaries stay below one kernel: a dense dW or a copy would not fit.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * HIDDEN * HIDDEN


@pytest.mark.parametrize("name", COMPACT)
def test_row_sparse_backward_has_no_dense_product(name: str) -> None:
    """The only products with a whole kernel are the two forward ones."""
    entry = compiled_step(RULES[name], "out_in", "sgd").as_text()
    shapes = rf"f32\[{HIDDEN},({INPUTS}|{HIDDEN})\]"
    assert not re.search(rf"= {shapes}\S* dot\(", entry)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order is chosen for CPUs")
def test_rows_of_the_kernel_are_multiplied_as_they_lie() -> None:
    """[O, B] and not [B, O] comes out of the forward products of kernels stored as [O, I]."""
    entry = compiled_step(RULES["unified"], "out_in", "sgd").as_text()
    kernels_first = re.findall(rf"= f32\[{HIDDEN},{ROWS}\]\S* dot\(", entry)
    assert len(kernels_first) == 2
    assert not re.search(rf"= f32\[{HIDDEN},{ROWS}\]\S* (copy|transpose)\(", entry)


def test_record_of_touched_rows_is_not_copied() -> None:
    text = compiled_step(RULES["unified memory"], "out_in", "adam").as_text()
    assert f"s32[{HIDDEN}]" in text
    assert not re.search(rf"= s32\[{HIDDEN}\]\S* copy\(", text)


def test_dense_gradient_form_is_the_same_program_every_step() -> None:
    compiled = compiled_step(RULES["unified memory"], None, "adam")
    assert (
        compiled.memory_analysis().alias_size_in_bytes > 8 * HIDDEN * HIDDEN
    )  # donated, updated in place
