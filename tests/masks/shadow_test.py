"""Methods whose shadow weights stay dense: DPF, STR, ADMM; and one-shot, ADMM's last step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import masks
from sparsetrain.masks.gradual import cubic_density

SHAPES = {"a": (9, 7), "b": (7, 5)}


def model():
    return {
        name: {"kernel": jax.random.normal(jax.random.key(i), shape), "bias": jnp.ones(shape[1])}
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def kernels(params):
    return {f"{name}/kernel": np.asarray(params[name]["kernel"]) for name in SHAPES}


def loss(params, x):
    h = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    return jnp.mean((h @ params["b"]["kernel"] + params["b"]["bias"][None] - 1.0) ** 2)


def keep(values, k):
    """Oracle: masks of the k largest of several arrays together, by a stable sort."""
    flat = np.concatenate([np.abs(each).ravel() for each in values.values()])
    mask = np.zeros(flat.size, bool)
    mask[np.argsort(-flat, kind="stable")[:k]] = True
    found, at = {}, 0
    for path, each in values.items():
        found[path] = mask[at : at + each.size].reshape(each.shape)
        at += each.size
    return found


def test_dpf_moves_all_weights_by_gradients_of_the_pruned_model():
    tx = masks.dpf(optax.sgd(0.1), 0.25, begin=2, end=6, every=2)
    params = model()
    state = tx.init(params)
    step = jax.jit(tx.update)
    returned = False
    for number in range(1, 13):
        x = jax.random.normal(jax.random.key(number), (4, 9))
        seen = masks.forward_params(params, state)
        for path, kernel in kernels(seen).items():
            np.testing.assert_array_equal(kernel, kernels(params)[path] * state.masks[path])
        g = jax.grad(loss)(seen, x)
        updates, new = step(g, state, params)
        plain = jax.tree.map(lambda u: -0.1 * u, g)
        np.testing.assert_allclose(updates["a"]["kernel"], plain["a"]["kernel"], rtol=1e-6)
        params = optax.apply_updates(params, updates)
        if number >= 2 and number % 2 == 0:
            size = sum(a * b for a, b in SHAPES.values())
            density = cubic_density((number - 2) / 4, 1.0, 0.25)
            wanted = keep(kernels(params), round(size * density))
            for path, mask in wanted.items():
                np.testing.assert_array_equal(new.masks[path], mask)
                returned |= bool(np.any(mask & ~np.asarray(state.masks[path])))
        state = new
    assert returned and step._cache_size() == 1


def test_str_is_gradient_descent_on_weights_and_thresholds():
    rate = 0.2
    tx = masks.soft_threshold(
        optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(rate)),
        thresholds=optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(rate)),
        initial=-1.0,
    )
    params = model()
    state = tx.init(params)
    plain, s = params, {path: jnp.float32(-1.0) for path in kernels(params)}

    def through(plain, s, x):
        def at(name, leaf):
            t = jax.nn.sigmoid(s[f"{name}/kernel"])
            return jnp.sign(leaf) * jax.nn.relu(jnp.abs(leaf) - t)

        return loss(
            {n: {"kernel": at(n, v["kernel"]), "bias": v["bias"]} for n, v in plain.items()}, x
        )

    for number in range(5):
        x = jax.random.normal(jax.random.key(number), (4, 9))
        updates, state = tx.update(
            jax.grad(loss)(masks.forward_params(params, state), x), state, params
        )
        params = optax.apply_updates(params, updates)
        g, slope = jax.grad(through, argnums=(0, 1))(plain, s, x)
        plain = jax.tree.map(lambda w, d: w - rate * (d + 1e-2 * w), plain, g)
        s = jax.tree.map(lambda w, d: w - rate * (d + 1e-2 * w), s, slope)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for path, value in s.items():
        assert float(state.thresholds[path]) == pytest.approx(float(value), abs=1e-5)
        assert float(value) != -1.0
    zeros = [
        np.mean(kernel == 0) for kernel in kernels(masks.forward_params(params, state)).values()
    ]
    assert min(zeros) > 0.1


@pytest.mark.parametrize("fine_tune", [False, True])
@pytest.mark.parametrize(
    "stages", [((0, 6, 0.25),), ((2, 5, 0.25),), ((1, 3, 0.5), (3, 5, 0.4), (6, 8, 0.25))]
)
def test_admm_against_numpy(stages, fine_tune):
    rho, rate = 0.3, 0.1
    *before, (begin, end, density) = stages
    tx = masks.admm(
        optax.sgd(rate),
        density,
        begin=begin,
        end=end,
        before=before,
        rho=rho,
        every=2,
        # Whatever begins anew at a pruning, later pulls come when they are due.
        fine_tune=optax.sgd(rate) if fine_tune else None,
    )
    params = model()
    state = tx.init(params)
    w = kernels(params)
    z = {path: np.zeros_like(each) for path, each in w.items()}
    u, live = dict(z), {path: np.ones(each.shape, bool) for path, each in w.items()}
    step = jax.jit(tx.update)
    for number in range(11):
        g = jax.tree.map(lambda leaf, number=number: 0.3 * leaf + 0.1 * number, model())
        pulls = [stage for stage in stages if stage[0] <= number < stage[1]]
        for first, _, kept in pulls:
            if number == first:
                u = {path: np.zeros_like(each) for path, each in w.items()}
            if (number - first) % 2 == 0:
                for path in w:
                    both = w[path] + u[path]
                    z[path] = both * keep({path: both}, round(both.size * kept))[path]
                    u[path] = both - z[path]
        for path, d in kernels(g).items():
            pull = rho * (w[path] - z[path] + u[path]) if pulls else 0.0
            w[path] = (w[path] - rate * (d + pull)) * live[path]
        for _, last, kept in stages:
            if number == last - 1:
                for path, each in w.items():
                    live[path] = keep({path: each}, round(each.size * kept))[path]
                    w[path] = each * live[path]
        updates, state = step(g, state, params)
        params = optax.apply_updates(params, updates)
        for path, each in kernels(params).items():
            np.testing.assert_allclose(each, w[path], atol=1e-5)
    for path, mask in masks.find(state).masks.items():
        np.testing.assert_array_equal(mask, live[path])
    assert step._cache_size() == 1


@pytest.mark.parametrize("distribution", ["uniform", "global"])
def test_every_pruning_keeps_its_share_of_what_is_left(distribution):
    tx = masks.iterative(
        optax.sgd(0.1), 0.1, at=6, before=((2, 0.5), (3, 0.3)), distribution=distribution
    )
    params = model()
    state, size = tx.init(params), sum(each.size for each in kernels(params).values())
    wanted = dict.fromkeys((1,), 1.0) | {2: 0.5} | dict.fromkeys((3, 4, 5), 0.3)
    before = kernels(jax.tree.map(jnp.ones_like, params))
    for number in range(1, 9):
        moved = jax.tree.map(lambda leaf, number=number: jnp.sin(50 * leaf * number), params)
        updates, state = tx.update(moved, state, params)
        params = optax.apply_updates(params, updates)
        now = kernels(params)
        share = sum(np.count_nonzero(each) for each in now.values()) / size
        assert share == pytest.approx(wanted.get(number, 0.1), abs=3 / size)
        assert all(np.all((now[path] == 0) | (before[path] != 0)) for path in now)
        before = now


@pytest.mark.parametrize("anew", [False, True])
def test_an_optimizer_begins_anew_at_every_pruning_if_another_fine_tunes(anew):
    rates = optax.piecewise_constant_schedule(0.5, {1: 0.5, 2: 0.5, 3: 0.5})
    params = {"kernel": jnp.full((4, 4), 10.0)}
    tx = masks.iterative(
        optax.sgd(rates),
        0.25,
        at=4,
        before=((2, 0.5),),
        fine_tune=optax.sgd(0.125) if anew else None,
    )
    state, moves = tx.init(params), []
    for _ in range(6):
        updates, state = tx.update({"kernel": jnp.ones((4, 4))}, state, params)
        params = optax.apply_updates(params, updates)
        # Ties are kept from the first on.
        moves.append(-float(updates["kernel"][0, 0]))
    assert moves == (
        [0.5, 0.25, 0.5, 0.25, 0.125, 0.125] if anew else [0.5, 0.25, 0.125] + [0.0625] * 3
    )


@pytest.mark.parametrize("structure", ["unstructured", "block", "n_m"])
def test_one_shot_prunes_once_and_fine_tunes_anew(structure):
    chosen = {"block": masks.block(1, 2), "n_m": masks.n_m(1, 2)}.get(structure, structure)
    density = 0.5
    params = {"kernel": jax.random.normal(jax.random.key(0), (8, 6))}
    tx = masks.one_shot(
        optax.adam(0.1), density, at=3, fine_tune=optax.adam(0.01), structure=chosen
    )
    state = tx.init(params)
    for number in range(1, 6):
        updates, state = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
        live = int(state.masks["kernel"].sum())
        assert live == (48 if number < 3 else 24)
        assert np.count_nonzero(params["kernel"]) == live
        if number == 4:  # Adam's first update is its learning rate.
            moved = np.asarray(updates["kernel"])[np.asarray(state.masks["kernel"])]
            np.testing.assert_allclose(moved, -0.01, rtol=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.one_shot(optax.sgd(0.1), 0.5, at=0), "at=0"),
        (lambda: masks.admm(optax.sgd(0.1), 0.5, end=5, every=0), "every=0"),
        (lambda: masks.admm(optax.sgd(0.1), 0.5, begin=5, end=5, every=1), "begin=5"),
        (
            lambda: masks.admm(optax.sgd(0.1), 0.5, begin=4, end=9, every=1, before=((0, 5, 0.7),)),
            "when the one before it has ended",
        ),
        (lambda: masks.iterative(optax.sgd(0.1), 0.5, at=3, before=((3, 0.7),)), "must come after"),
        (lambda: masks.iterative(optax.sgd(0.1), 0.5, at=3, before=((2, 0.4),)), "keep no more"),
        (lambda: masks.iterative(optax.sgd(0.1), 0.5, at=3, before=((2, 1.5),)), "density"),
        (
            lambda: masks.iterative(
                optax.sgd(0.1), 0.5, at=3, before=((2, 0.7),), structure=masks.n_m(1, 2)
            ),
            "n:m",
        ),
        (lambda: masks.dpf(optax.sgd(0.1), 0.5, begin=9, end=5), "begin=9"),
        (lambda: masks.dpf(optax.sgd(0.1), 0.5, end=5, structure=masks.n_m(1, 2)), "n:m"),
        (lambda: masks.forward_params({}, ()), "holds 0"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()
