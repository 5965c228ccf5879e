import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.flower import __main__ as command
from experiments.flower import attendance, letters, problem, record, report, rounds, runs, split
from experiments.flower.attendance import Fate
from experiments.flower.client import Client
from experiments.flower.methods import METHODS, Method
from experiments.flower.server import Server
from sparsetrain import compress, data

RATE, STEPS = 0.5, 3
LIKE = {"b": np.zeros(4, np.float32), "w": np.zeros((30, 4), np.float32)}


def linear(weights, batch):
    """Its gradient is the batch, whatever the weights: what a client learns is known beforehand."""
    return sum(
        jnp.sum(w * x)
        for w, x in zip(jax.tree.leaves(weights), jax.tree.leaves(batch), strict=True)
    )


def batches(seed):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: random.normal(size=(STEPS, *leaf.shape)).astype(np.float32), LIKE
    )


def learned(seed):
    return jax.tree.map(lambda each: -RATE * each.sum(0), batches(seed))


def parts(how):
    weights = jax.tree.map(lambda leaf: leaf + 1, LIKE)
    return Client(how, linear, optax.sgd(RATE), LIKE), Server(how, weights)


def total(trees):
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), LIKE, *trees)


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), a, b)


def read(how, frame):
    received = letters.wire.decode(frame, letters.shapes_of(how.up, LIKE))
    return jax.device_get(how.up.decompress(received))


@pytest.mark.parametrize("alpha", [None, 0.1, 10.0])
def test_a_split_gives_every_example_to_one_client_and_is_the_same_for_the_same_seed(alpha):
    labels = np.arange(997) % 10

    def shared(seed):
        if alpha is None:
            return split.iid(len(labels), 8, seed)
        return split.dirichlet(labels, 8, alpha, seed, minimum=5)

    found = shared(3)
    assert len(found) == 8
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(997))
    assert min(map(len, found)) >= 5
    assert same(found, shared(3))
    assert [part.tolist() for part in found] != [part.tolist() for part in shared(4)]


def test_a_small_alpha_gives_a_client_few_classes():
    labels = np.repeat(np.arange(10), 500)
    mostly = {
        alpha: np.mean(
            [
                np.bincount(labels[part], minlength=10).max() / len(part)
                for part in split.dirichlet(labels, 10, alpha, 0, minimum=10)
            ]
        )
        for alpha in (0.1, 100.0)
    }
    assert mostly[100.0] < 0.2 < 0.4 < mostly[0.1]


def test_splits_that_cannot_be_say_why():
    labels = np.arange(20) % 2
    with pytest.raises(ValueError, match="alpha=0"):
        split.dirichlet(labels, 2, 0, 0)
    with pytest.raises(ValueError, match="need 22 examples, there are 20"):
        split.dirichlet(labels, 2, 1.0, 0, minimum=11)
    with pytest.raises(ValueError, match="draws left some of 4 clients with fewer than 5"):
        split.dirichlet(labels, 4, 0.01, 0, minimum=5)
    with pytest.raises(ValueError, match="clients=21"):
        split.iid(20, 21, 0)


def test_who_is_asked_and_who_fails_is_a_function_of_seed_round_and_client():
    asked = [attendance.invited(0, number, 10, 0.3) for number in range(1, 50)]
    assert all(len(set(each)) == 3 and each == sorted(each) for each in asked)
    assert {client for each in asked for client in each} == set(range(10))
    assert asked[7] == attendance.invited(0, 8, 10, 0.3)
    fates = [
        attendance.fate(0, number, client, 0.4) for number in range(200) for client in range(5)
    ]
    shares = [fates.count(fate) / len(fates) for fate in (Fate.ABSENT, Fate.LOST, Fate.ANSWERS)]
    np.testing.assert_allclose(shares, (0.2, 0.2, 0.6), atol=0.05)
    assert attendance.fate(0, 3, 2, 0.0) is Fate.ANSWERS
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="fraction"):
            attendance.invited(0, 1, 10, wrong)
    with pytest.raises(ValueError, match="dropout"):
        attendance.fate(0, 1, 1, 1.0)


def test_dense_updates_of_all_clients_make_federated_averaging():
    client, server = parts(METHODS["fedavg"])
    kept = dict.fromkeys(range(3), client.fresh())
    weights, examples = server.weights, {0: 10, 1: 20, 2: 70}
    for number in (1, 2):
        answers = {}
        for who in (2, 0, 1):  # Whoever is faster.
            kept[who], answers[who] = client.turn(
                kept[who], server.letter(who), batches(10 * number + who), number, examples[who]
            )
        server.close(number, answers)
        moves = [
            jax.tree.map(lambda leaf, n=examples[who]: leaf * n / 100, learned(10 * number + who))
            for who in range(3)
        ]
        weights = total([weights, *moves])
        close(server.weights, weights)
    assert not any(
        np.any(leaf) for leaf in jax.tree.leaves([kept[0].sender.memory, server.residual])
    )


@pytest.mark.parametrize("name", [name for name in METHODS if name != "fedavg"])
def test_what_was_heard_and_what_is_owed_is_what_was_learned(name):
    how = METHODS[name]
    client, server = parts(how)
    kept, heard, told = client.fresh(), [], []
    for number in range(1, 9):
        before = server.weights
        kept, up = client.turn(kept, server.letter(5), batches(number), number, 7)
        told.append(learned(number))
        if number in (2, 3, 6):
            continue  # The reply is lost: nobody told the client.
        heard.append(read(how, up.frame))
        server.close(number, {5: up})
        assert server.version == len(heard)
        assert not same(server.weights, before)
    residual = kept.sender.memory.residual
    close(total([*heard, residual]), total(told))
    # And the server's own: what it was told is in the weights or still owed by it.
    start = jax.tree.map(lambda leaf: leaf + 1, LIKE)
    close(total([server.weights, server.residual]), total([start, *heard]))


def test_a_client_that_is_away_finds_its_residual_untouched_and_catches_up_to_the_bit():
    how = Method("", compress.sparse_ternary(0.1), compress.sparse_ternary(0.1))
    client, server = parts(how)
    kept = dict.fromkeys(range(2), client.fresh())
    kinds = set()
    for number in range(1, 45):
        present = [0] if number % 6 or number > 18 else [0, 1]
        before = jax.tree.map(np.copy, kept[1].sender)
        answers = {}
        for who in present:
            letter = server.letter(who)
            if who:
                kinds.add((letter.whole, len(letter.frames)))
            assert letter.size <= len(letters.whole_frame(LIKE))
            kept[who], answers[who] = client.turn(kept[who], letter, batches(number), number, 1)
            assert same(kept[who].weights, server.weights)
        if 1 not in present:
            assert same(kept[1].sender, before)
        assert same(client.caught_up(kept[0], server.letter(0)), server.weights)
        server.close(number, answers)
    # Away for so long that whole weights are fewer bytes.
    assert server.letter(1).whole and server.version - kept[1].version > 12
    assert same(client.caught_up(kept[1], server.letter(1)), server.weights)
    assert (True, 1) in kinds and (False, 6) in kinds
    # Who answers in every round is sent one answer, who is asked twice in a round nothing.
    assert [len(server.letter(0).frames), server.letter(0).whole] == [1, False]
    at_once = client.turn(kept[0], server.letter(0), batches(0), 45, 1)[1]
    server.close(45, {0: at_once._replace(frame=b"")})
    assert server.letter(0).frames == ()


def test_an_answer_that_the_client_has_is_not_applied_twice():
    client, server = parts(METHODS["stc_4"])
    kept, up = client.turn(client.fresh(), server.letter(0), batches(0), 1, 1)
    server.close(1, {0: up})
    server.close(2, {1: up})
    lost, _ = client.turn(kept, server.letter(0), batches(1), 3, 1)
    assert lost.version == 2
    again = server.letter(0)
    assert len(again.frames) == 2  # The server cannot know.
    assert same(client.caught_up(lost, again), server.weights)
    with pytest.raises(ValueError, match="lost its state"):
        client.caught_up(client.fresh(), again)


@pytest.mark.parametrize("name", ["fedavg", "stc_4"])
def test_what_is_not_finite_or_not_whole_is_not_heard(name):
    how = METHODS[name]
    client, server = parts(how)
    kept, up = client.turn(client.fresh(), server.letter(0), batches(0), 1, 1)
    server.close(1, {0: up})
    weights = server.weights
    bad = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), batches(1))
    silent, up = client.turn(kept, server.letter(0), bad, 2, 1)
    assert up.frame == b"" and same(silent.sender.memory, kept.sender.memory)
    server.close(2, {0: up})
    assert server.version == 1 and same(server.weights, weights)
    # A frame that was damaged: its sender is told that it was not heard, and owes it.
    kept, up = client.turn(silent, server.letter(0), batches(2), 3, 1)
    server.close(3, {0: up._replace(frame=up.frame[:-1] + bytes([up.frame[-1] ^ 1]))})
    assert server.version == 1 and server.letter(0).heard == 2
    later, up = client.turn(kept, server.letter(0), batches(3), 4, 1)
    owed = total([read(how, up.frame), later.sender.memory.residual])
    close(owed, total([silent.sender.memory.residual, learned(2), learned(3)]))


def few_digits():
    found = problem.load("digits")
    return found._replace(train=data.Split(found.train.images[:300], found.train.labels[:300]))


def test_bytes_are_those_of_the_messages_and_a_run_can_be_repeated(monkeypatch):
    up, down = [], []
    send, hear = rounds.Course.letters, rounds.Course.close

    def letters(self, number):
        found = send(self, number)
        down.extend(len(frame) for letter in found.values() for frame in letter.frames)
        return found

    def close(self, number, answers):
        up.extend(len(each.frame) for each in answers.values())
        return hear(self, number, answers)

    monkeypatch.setattr(rounds.Course, "letters", letters)
    monkeypatch.setattr(rounds.Course, "close", close)
    run = runs.Run("stc_1", alpha=0.5, dropout=0.4, seed=1, rounds=6, clients=6, steps=4)
    course = rounds.follow(run, few_digits())
    found = course.content()["summary"]
    assert found["bytes_up"] == sum(up) and found["bytes_down"] == sum(down)
    assert found["heard"] == len(up) < found["asked"] == 18
    assert course.curves["round"] == [2, 4, 6]
    again = rounds.follow(run, few_digits())
    assert again.curves == course.curves and same(again.server.weights, course.server.weights)


def test_a_turn_sees_the_clients_own_examples_and_all_of_them():
    run = runs.Run("fedavg", alpha=0.1, dropout=0.0, seed=0, clients=4, steps=30)
    found = problem.Problem(run, few_digits())
    smallest = int(np.argmin([len(part) for part in found.owned]))
    images, labels = found.batches(smallest, 1)
    assert images.shape == (30, 20, 8, 8, 1) and labels.shape == (30, 20)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() == 1
    own = few_digits().train.labels[found.owned[smallest]]
    assert len(own) <= 600 and set(labels.ravel()) == set(own)
    assert not np.array_equal(found.batches(smallest, 2)[1], labels)


def test_a_run_becomes_one_file_and_is_never_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "load", lambda name: few_digits())
    run = runs.Run("sbc_4", None, 0.0, 0, rounds=10, clients=4, fraction=1.0)
    assert record.missing([run], tmp_path) == [run]
    assert record.record(run, tmp_path)
    path = tmp_path / f"{run.name}.json"
    before = path.read_bytes()
    assert not record.record(run, tmp_path)
    assert path.read_bytes() == before and record.missing([run], tmp_path) == []
    content = json.loads(before)
    assert content["engine"] == "plain loop" and content["examples"] == [75] * 4
    assert content["summary"]["test_accuracy"] > 0.6
    assert content["summary"]["heard"] == content["summary"]["whole"] == 40
    # A client's frame: 4% of 55,210 entries, each in less than a byte.
    assert 0.5 < content["summary"]["bytes_up"] / 40 / (0.04 * 55_210) < 1


def fake(folder, run, accuracy, size):
    content = {
        **{name: getattr(run, name) for name in ("method", "alpha", "dropout", "seed", "data")},
        **{name: getattr(run, name) for name in ("rounds", "clients")},
        "engine": "plain loop",
        "parameters": 1000,
        "examples": [10, 30],
        "summary": {
            "bytes_up": size,
            "bytes_down": 2 * size,
            "asked": 8,
            "heard": 6,
            "whole": 4 if run.method == "fedavg" else 0,
        },
        "curves": {"test_accuracy": [0.1, *[accuracy] * report.LAST]},
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_tables_by_hand(tmp_path):
    for seed, (dense, sbc) in enumerate(((0.99, 0.98), (0.97, 0.97))):
        fake(tmp_path, runs.Run("fedavg", 0.1, 0.3, seed), dense, 4_000_000)
        fake(tmp_path, runs.Run("sbc_1", 0.1, 0.3, seed), sbc, 10_000)
    fake(tmp_path, runs.Run("stc_1", None, 0.0, 0), 0.5, 1000)
    fake(tmp_path, runs.Run("stc_1", None, 0.0, 0, rounds=9), 0.1, 1000)  # Shorter: left out.
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    (line,) = (line for line in written.splitlines() if line.startswith("| SBC, 1%"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["2", "97.50 ± 0.71"] and cells[3].startswith("-0.50 [")
    assert cells[4:] == ["0.010", "x400.0", "0.020", "x400.0", "0", "0.020"]
    assert "**Dirichlet(0.1)** (10 to 30 examples a client), **30% of the invited fail**" in written
    assert written.index("equal shares") < written.index("Dirichlet")
    assert sum(line.startswith("| STC") for line in written.splitlines()) == 1


def test_the_readme_shows_the_tables_of_the_committed_results():
    wanted = report.text(report.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_no_results_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="run  python -m"):
        report.load(tmp_path)


def test_the_grid_gives_every_setting_of_a_seed_before_the_next():
    grid = list(runs.grid(2))
    assert len({run.name for run in grid}) == len(grid) == 2 * 4 * len(METHODS)
    assert [run.seed for run in grid] == sorted(run.seed for run in grid)


def test_the_command_line_runs_the_asked_methods_without_flower(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(
        [
            *("--only=stc_1", "--only=fedavg", "--seeds=1", "--rounds=3"),
            *("--engine=plain", f"--out={tmp_path}"),
        ]
    )
    assert [run.method for run in seen] == ["fedavg", "stc_1"] * 4
    assert {run.rounds for run in seen} == {3}
    assert "8 of 8" in capsys.readouterr().out


def test_data_that_are_nowhere_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    problem.load.cache_clear()
    with pytest.raises(SystemExit, match="mnist"):
        command.main(["--data=mnist", "--engine=plain", f"--out={tmp_path}"])
