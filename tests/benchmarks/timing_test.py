import itertools

import pytest

from benchmarks import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the timed functions move."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_quantiles_and_steps(clock):
    costs = itertools.cycle([1.0, 2.0, 3.0])
    candidates = {"steady": lambda i: clock(0.5), "uneven": lambda i: clock(next(costs))}
    effort = timing.Effort(rounds=4, block_s=100.0, most_calls=6, warm=0)
    times = timing.measure(candidates, lambda r: r, effort, units={"steady": 10})
    assert times["steady"] == pytest.approx((0.05, 0.05, 0.05, 24))
    assert times["uneven"] == pytest.approx((2.0, 1.0, 3.0, 24))


def test_warm_calls_do_not_count_and_waiting_does(clock):
    """The first call of a visit is slow; waiting for the result is part of the time."""
    last = [None]

    def candidate(name):
        def call(number):
            clock(100.0 if last[0] != name else 1.0)
            last[0] = name

        return call

    effort = timing.Effort(rounds=5, block_s=1e9, most_calls=4, warm=1)
    times = timing.measure(
        {"a": candidate("a"), "b": candidate("b")}, lambda _: clock(10.0), effort
    )
    assert times["a"] == times["b"] == pytest.approx((11.0, 11.0, 11.0, 20))


def test_every_call_gets_another_number():
    numbers = []
    effort = timing.Effort(rounds=3, block_s=0.0, most_calls=5, warm=2)
    timing.measure({"f": numbers.append}, lambda r: r, effort)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == 3 + 3 * (2 + 3)


def test_a_long_candidate_gets_fewer_calls(clock):
    candidates = {"short": lambda i: clock(0.01), "long": lambda i: clock(0.1)}
    effort = timing.Effort(rounds=2, block_s=0.5, most_calls=60, warm=0)
    times = timing.measure(candidates, lambda r: r, effort)
    assert times["short"].calls in (2 * 49, 2 * 50)  # rounding of the clock
    assert times["long"].calls in (2 * 4, 2 * 5)
