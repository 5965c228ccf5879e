import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, wire
from sparsetrain.compress import global_merge
from sparsetrain.runtime.cost_model import (
    METHODS,
    NETWORKS,
    Exchange,
    Measured,
    Network,
    Work,
    crossover,
    fit,
    predict,
    traffic,
    validate,
)

N = 25.6e6
SPARSE = [method for method in METHODS if not Exchange(method).is_dense]
WORKERS = np.array([2, 3, 4, 5, 7, 8, 16, 100, 1024, 5000])
POWERS = 2 ** np.arange(1, 13)
WIRE = Network(latency=0.0, bandwidth=1e9)  # bits alone


def ring_by_hand(workers, entries):
    """All-reduce of blocks passed around a ring: result, rounds, and entries that came in at a worker."""
    blocks = np.arange(workers * entries, dtype=float).reshape(workers, workers, -1)
    total, rounds, received = blocks.sum(axis=0), 0, 0
    for reduces in (True, False):
        for turn in range(workers - 1):
            sent = blocks.copy()
            for rank in range(workers):
                block = (rank - turn - reduces) % workers
                incoming = sent[(rank - 1) % workers, block]
                blocks[rank, block] = incoming + (sent[rank, block] if reduces else 0)
            rounds, received = rounds + 1, received + entries // workers
    assert (blocks == total).all()
    return rounds, received


@pytest.mark.parametrize("workers", [2, 3, 4, 6])
def test_a_ring_moves_what_one_by_hand_does(workers):
    moved = traffic(Exchange("ring"), workers, 12 * workers)
    assert (moved.messages, moved.bits / 32) == ring_by_hand(workers, 12 * workers)


def test_dense_volume_is_two_n_less_two_shares():
    expected = 2 * N * (WORKERS - 1) / WORKERS
    np.testing.assert_allclose(
        traffic(Exchange("ring"), WORKERS, N).bits / 32, expected, rtol=1e-15
    )
    powers = traffic(Exchange("halving_doubling"), POWERS, N)
    np.testing.assert_allclose(powers.bits / 32, 2 * N * (POWERS - 1) / POWERS, rtol=1e-15)
    np.testing.assert_array_equal(powers.messages, 2 * np.log2(POWERS))


def test_halving_and_doubling_pays_for_workers_that_are_too_many():
    moved = traffic(Exchange("halving_doubling"), 6, 1000)
    assert moved.messages == 2 * 2 + 2
    assert moved.bits / 32 == 2 * 1000 * 3 / 4 + 2 * 1000


def test_all_gather_moves_as_many_words_as_dense_at_density_one_over_w():
    pairs = traffic(Exchange("top_k"), WORKERS, N, density=1 / WORKERS)
    np.testing.assert_allclose(pairs.bits, traffic(Exchange("ring"), WORKERS, N).bits, rtol=1e-14)
    found = crossover(Exchange("top_k"), WIRE, workers=WORKERS, entries=N)
    np.testing.assert_allclose(found, 1 / WORKERS, rtol=1e-12)


def test_half_the_position_bits_move_the_break_even():
    narrow = Exchange("top_k", position_bits=16)  # 1.5 words a pair
    found = crossover(narrow, WIRE, workers=WORKERS, entries=N)
    np.testing.assert_allclose(found, np.minimum(1, 4 / 3 / WORKERS), rtol=1e-12)


def test_merging_in_pairs_grows_with_the_logarithm():
    moved = traffic(Exchange("gtop_k"), POWERS, N, density=0.001)
    np.testing.assert_allclose(moved.bits, 2 * 32 * 0.001 * N * np.log2(POWERS), rtol=1e-15)


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 8])
def test_merging_in_pairs_takes_the_messages_that_the_compressor_sends(workers, monkeypatch):
    calls = []
    real = jax.lax.ppermute
    monkeypatch.setattr(
        global_merge.lax,
        "ppermute",
        lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs),
    )
    compressor = compress.global_merge_top_k(0.25)

    def one_round(u):
        payload, state = compressor.compress(u, compressor.init(u))
        return compressor.aggregate(payload, u, state, "workers").mean

    jax.make_jaxpr(jax.vmap(one_round, axis_name="workers"))(jnp.ones((workers, 8)))
    assert len(calls) == traffic(Exchange("gtop_k"), workers, 8, 0.25).messages


@pytest.mark.parametrize("density", [1e-6, 0.001, 1.0])
def test_balanced_reduction_stays_below_six_k_words(density):
    many = np.arange(1, 5000)
    words = traffic(Exchange("ok_topk"), many, N, density).bits / 32
    assert (words < 6 * density * N).all()
    assert (np.diff(words) > 0).all()
    assert words[-1] == pytest.approx(6 * density * N, rel=1e-3)


@pytest.mark.parametrize("workers", [2, 3, 4, 8, 50])
def test_balanced_reduction_takes_the_bits_that_the_compressor_sends(workers):
    size, density = 4000, 0.1
    compressor, moved = compress.ok_top_k(density), []

    def count(u):
        payload, _ = compressor.compress(u, compressor.init(u))
        moved.append(compressor.moved_bytes(payload, workers))

    jax.eval_shape(count, jax.ShapeDtypeStruct((size,), np.float32))
    # 3 k / 2 slots are a whole number for each of these workers.
    assert 8 * moved[0] == pytest.approx(traffic(Exchange("ok_topk"), workers, size, density).bits)


def test_local_steps_share_out_everything_but_the_step_itself():
    work = Work(selection=0.3, scatter=1e-8, compute=0.2)
    setting = {"workers": WORKERS, "entries": N, "density": 0.01, "work": work}
    every = predict(Exchange("sbc"), NETWORKS["1 GbE"], **setting)
    delayed = predict(Exchange("sbc", local_steps=10), NETWORKS["1 GbE"], **setting)
    np.testing.assert_allclose(10 * delayed.communication, every.communication, rtol=1e-14)
    np.testing.assert_allclose(delayed.step - delayed.communication, 0.2)
    assert float(delayed.selection[0]) == pytest.approx(0.03)


def test_sbc_sends_golomb_positions_and_a_mean():
    bits = traffic(Exchange("sbc"), 2, N, density=0.01).bits
    assert bits == pytest.approx(0.01 * N * wire.expected_bits(0.01) + 32, rel=1e-15)
    ternary = traffic(Exchange("sbc", value_bits=1), 2, N, density=0.01).bits
    assert ternary - bits == pytest.approx(0.01 * N)


@pytest.mark.parametrize("method", METHODS)
def test_more_bandwidth_and_less_latency_never_cost(method):
    setting = {"workers": WORKERS[:, None], "entries": N, "density": 0.01}
    slow, fast, near = (
        predict(Exchange(method), Network(latency, bandwidth), **setting).exchange
        for latency, bandwidth in ((1e-4, 1e8), (1e-4, 1e9), (1e-5, 1e8))
    )
    assert (fast < slow).all() and (near < slow).all()


@pytest.mark.parametrize("method", SPARSE)
def test_cost_grows_with_density_and_workers(method):
    # Powers of two: gTop-k on 3 workers takes longer than on 4. A third: from .38 on the best
    # Golomb code is a bitmap, of one size.
    setting = {"workers": POWERS[:, None], "entries": N, "density": np.geomspace(1e-6, 1 / 3, 200)}
    cost = predict(Exchange(method), NETWORKS["1 GbE"], **setting).exchange
    assert (np.diff(cost, axis=1) > 0).all() and (np.diff(cost, axis=0) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_worker_waits_for_nobody(method):
    assert predict(Exchange(method), NETWORKS["1 GbE"], workers=1, entries=N).exchange == 0


@pytest.mark.parametrize("method", ["dls", "ring"])
@pytest.mark.parametrize(("bandwidth", "share"), [(1e9, 0.3), (1e9, 1.0), (1e12, 1.0)])
def test_overlap_is_a_pipeline_of_equal_pieces(method, bandwidth, share):
    pieces, backward = 7, 2.0
    network = Network(1e-4, bandwidth)
    work = Work(compute=3.0, backward=backward)
    setting = {"workers": 8, "entries": N, "density": 0.1, "work": work}
    plain = predict(Exchange(method, pieces=pieces), network, **setting)
    hidden = predict(Exchange(method, pieces=pieces, overlap=share), network, **setting)
    make, send = share * backward / pieces, float(plain.exchange) / pieces
    made = sent = 0.0
    for _ in range(pieces):
        made += make
        sent = max(sent, made) + send
    assert float(hidden.exchange) == pytest.approx(sent - share * backward)
    assert float(hidden.exchange + hidden.hidden) == pytest.approx(float(plain.exchange))


@pytest.mark.parametrize("method", METHODS)
def test_arguments_broadcast(method):
    setting = {"workers": WORKERS[:, None, None], "entries": np.array([[1e6], [N]])}
    density = np.array([0.01, 0.1, 1.0])
    moved = traffic(Exchange(method), density=density, **setting)
    cost = predict(Exchange(method), WIRE, density=density, **setting)
    assert {np.shape(part) for part in (*moved, *cost)} == {(len(WORKERS), 2, 3)}
    alone = predict(Exchange(method), WIRE, workers=5, entries=N, density=0.1)
    assert cost.exchange[3, 1, 1] == alone.exchange


def test_parts_add_up_and_dense_selects_nothing():
    work = Work(selection=lambda density: 100 * density, scatter=1e-9, merge=1e-8, add=1e-10)
    ring = predict(Exchange("ring"), WIRE, workers=4, entries=1e6, density=0.01, work=work)
    assert ring.selection == 0 and ring.apply == pytest.approx(1e-10 * 0.75e6)
    tree = predict(Exchange("gtop_k"), WIRE, workers=4, entries=1e6, density=0.01, work=work)
    assert tree.selection == pytest.approx(1.0)
    assert tree.apply == pytest.approx(1e4 * (1e-9 + 2 * 1e-8))
    assert tree.step == tree.compute + tree.selection + tree.exchange + tree.apply


def test_crossover_is_where_the_costs_meet():
    work = Work(selection=lambda density: 0.1 + density, scatter=5e-9)
    for method in SPARSE:
        setting = {"workers": np.array([4, 64]), "entries": N, "work": work}
        found = crossover(Exchange(method), NETWORKS["1 GbE"], **setting)
        sparse = predict(Exchange(method), NETWORKS["1 GbE"], density=found, **setting)
        dense = np.minimum(
            *(
                predict(Exchange(each), NETWORKS["1 GbE"], **setting).communication
                for each in ("ring", "halving_doubling")
            )
        )
        # At 1 SBC's bitmap may still win: then there is nothing to meet.
        inside = found < 1
        np.testing.assert_allclose(sparse.communication[inside], dense[inside], rtol=1e-9)


def test_sparse_never_wins_where_selection_alone_takes_longer_than_dense():
    slow = Work(selection=1.0)
    for network in ("100 Gb InfiniBand", "NVLink"):
        found = crossover(
            Exchange("gtop_k"), NETWORKS[network], workers=POWERS, entries=N, work=slow
        )
        assert (found == 0).all()


def rows(network, noise, seed=0):
    rng = np.random.default_rng(seed)
    for method in ("ring", "top_k", "ok_topk"):
        for workers in (2, 4):
            for entries in (1e4, 1e6, N):
                moved = traffic(Exchange(method), workers, entries, 0.01)
                seconds = float(network.seconds(moved.messages, moved.bits))
                seconds *= math.exp(noise * rng.standard_normal())
                yield Measured(Exchange(method), workers, entries, seconds, 0.01)


@pytest.mark.parametrize("network", [*NETWORKS.values()], ids=lambda network: network.name)
def test_fit_finds_alpha_and_beta_again(network):
    alpha, beta, _ = fit(list(rows(network, noise=0)))
    assert (alpha, beta) == pytest.approx((network.latency, network.bandwidth), rel=1e-9)
    noisy = list(rows(network, noise=0.05))
    alpha, beta, _ = fit(noisy)
    assert (alpha, beta) == pytest.approx((network.latency, network.bandwidth), rel=0.1)
    errors = validate(noisy, fit(noisy))
    assert 0 < errors.median < 0.06 and errors.median < errors.worst < 0.2
    assert errors.relative.shape == (len(noisy),)


def test_fit_takes_no_negative_latency():
    shrinking = [Measured(Exchange("ring"), 2, n, seconds=n**1.2 / 1e9) for n in (1e3, 1e5, 1e7)]
    assert fit(shrinking).latency == 0


def test_errors_have_a_sign():
    row = Measured(Exchange("ring"), 2, 1e6, seconds=0.064)
    assert validate([row], WIRE).relative == pytest.approx([-0.5])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Exchange("gossip"), "method='gossip': must be one of ring, .*sbc"),
        (lambda: Exchange("top_k", pieces=3), "pieces=3: top_k needs the whole .*dls send pieces"),
        (lambda: Exchange("ring", pieces=0), "pieces=0: must be at least 1; 1 sends"),
        (lambda: Exchange("dls", overlap=2), r"overlap=2: must lie in \[0, 1\], a share"),
        (lambda: Exchange("dls", overlap=0.5, local_steps=2), "overlap=0.5: .*leave it at 0"),
        (lambda: Exchange("sbc", local_steps=0), "local_steps=0: must be at least 1; 1 exchanges"),
        (lambda: Exchange("sbc", value_bits=-1), "value_bits=-1: must be at least 0; leave it out"),
        (lambda: traffic(Exchange("ring"), 0, 9), "workers=0: must be at least 1; count"),
        (lambda: traffic(Exchange("ring"), 2, math.nan), "entries=nan: must be .*parameters"),
        (lambda: traffic(Exchange("top_k"), 2, 9, 4), r"density=4: must lie in \(0, 1\].*0.04"),
        (lambda: Network(1e-6, 0).seconds(1, 1), "bandwidth=0: must be more than 0; in bits"),
        (lambda: Network(-1, 1).seconds(1, 1), "latency=-1: must be at least 0; in seconds"),
        (
            lambda: predict(Exchange("ring"), WIRE, workers=2, entries=9, work=Work(backward=1)),
            "backward=1: must not exceed compute=0",
        ),
        (
            lambda: predict(Exchange("dls"), WIRE, workers=2, entries=9, work=Work(scatter=-1)),
            "scatter=-1: must be at least 0; in seconds an entry",
        ),
        (
            lambda: crossover(Exchange("ring"), WIRE, workers=2, entries=9),
            "exchange=ring: .*sparse",
        ),
        (lambda: crossover(Exchange("dls"), WIRE, workers=1, entries=9), "workers=1: .*at least 2"),
        (
            lambda: crossover(Exchange("dls"), WIRE, workers=2, entries=9, against=()),
            r"against=\(\): name at least one",
        ),
        (lambda: fit([]), "rows: none; give"),
        (lambda: fit([Measured(Exchange("ring"), 2, 9, 1.0)]), "rows: 1 of one ratio.*measure"),
        (lambda: fit([Measured(Exchange("ring"), 2, 9, 0.0)]), "seconds=0: must be more than 0"),
        (lambda: fit([Measured(Exchange("ring"), 1, 9, 1.0)]), "workers=1: .*leave out"),
        (
            lambda: fit([Measured(Exchange("ring"), 2, n, 9 / n) for n in (1, 10, 100)]),
            "rows: their times do not grow with the bits; measure",
        ),
    ],
)
def test_errors_name_argument_value_and_cure(call, said):
    with pytest.raises(ValueError, match=said):
        call()
