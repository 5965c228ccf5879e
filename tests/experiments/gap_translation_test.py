import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sentencepiece")
pytest.importorskip("sacrebleu")

from experiments.gap_translation import __main__ as command
from experiments.gap_translation import methods, pieces, record, report, runs, translate
from sparsetrain.data import multi30k
from sparsetrain.models import Transformer

TINY = dataclasses.replace(
    runs.SETTINGS["short"],
    symbols=60,
    width=8,
    feed=16,
    heads=2,
    length=12,
    batch=2,
    warm_up=1,
    phases=3,
    phase=1,
    fine_tune=2,
    every=2,
    tested=2,
)
ENGLISH = ("A man sits.", "A dog runs on the grass.", "The man and the dog.") * 3
GERMAN = ("Ein Mann sitzt.", "Ein Hund rennt auf dem Gras.", "Der Mann und der Hund.") * 3


@pytest.fixture(scope="module")
def network():
    model = Transformer(12, 8, 16, 2, layers=1, pre_norm=True)
    pair = jnp.ones((1, 3), jnp.int32)
    return model, jax.jit(model.init)(jax.random.key(3), pair, pair)["params"]


def few_pairs():
    pairs = multi30k.Pairs(ENGLISH, GERMAN)
    return multi30k.Corpus(pairs, pairs, pairs)


def test_pieces_give_back_the_sentences():
    learnt = pieces.learn([*ENGLISH, *GERMAN], 60)
    rows, fits = pieces.encode(learnt, ENGLISH[:2], 40)
    assert rows.shape == (2, 40) and fits.all()
    assert pieces.decode(learnt, rows) == list(ENGLISH[:2])
    cut, fits = pieces.encode(learnt, ENGLISH[:2], 4)
    assert not fits[1] and (cut[1, :3] == rows[1, :3]).all() and cut[1, 3] == pieces.END
    again = pieces.encode(pieces.learn([*ENGLISH, *GERMAN], 60), ENGLISH[:2], 40)[0]
    np.testing.assert_array_equal(again, rows)


def test_partitions_are_the_encoder_and_the_halves_of_the_decoder():
    model = methods.network(runs.SETTINGS["full"])
    pair = jnp.ones((1, 4), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), pair, pair)["params"]
    owners = methods.partitions(4).assign(params)
    counts = [list(owners.values()).count(n) for n in ("encoder", "decoder_a", "decoder_b")]
    assert counts == [4 * 6, 2 * 10, 2 * 10]
    full = runs.SETTINGS["full"]
    assert full.updates == 340 * 226 and full.updates in full.stops()


def test_greedy_takes_the_likeliest_symbol_each_time(network):
    model, params = network
    source = jnp.array([[5, 6, 2, 0], [7, 2, 0, 0]])
    found = np.asarray(translate.greedy(model, params, source, 4))
    apply = jax.jit(model.apply)
    for row, given in zip(found, source, strict=True):
        written = [pieces.BEGIN]
        for place in range(4):
            target = jnp.array([written + [0] * (4 - len(written))])
            logits = apply({"params": params}, given[None], target)
            written.append(int(jnp.argmax(logits[0, place])))
            if written[-1] == pieces.END:
                break
        assert row.tolist() == (written[1:] + [0] * 4)[:4]


def test_the_loss_leaves_padding_out_and_smooths(network):
    model, params = network
    source, target = jnp.array([[5, 6, 2]]), jnp.array([[7, 2]])
    loss = jax.jit(record.loss, static_argnums=0)
    padded = jnp.pad(target, ((0, 0), (0, 2)))
    short, long = (float(loss(model, params, source, each, 0.1)) for each in (target, padded))
    assert short == pytest.approx(long, rel=1e-5)
    begun = jnp.array([[pieces.BEGIN, 7]])
    logits = jax.jit(model.apply)({"params": params}, source, begun)[0]
    logs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    wanted = -np.mean([0.9 * logs[i, n] + 0.1 * logs[i].mean() for i, n in enumerate((7, 2))])
    assert short == pytest.approx(wanted, rel=1e-4)


def test_a_run_becomes_one_file_and_is_never_repeated(monkeypatch, tmp_path):
    monkeypatch.setitem(runs.SETTINGS, "tiny", TINY)
    run = runs.Run("C-GaP", 0, "tiny")
    assert record.record(run, tmp_path, few_pairs)
    assert not record.record(run, tmp_path, lambda: pytest.fail("must not load"))
    content = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert content["curves"]["update"] == [2, 3, 4, 5]
    assert content["curves"]["density"][1:] == [pytest.approx(0.1, abs=0.01)] * 3
    assert content["curves"]["density"][0] > 0.3
    assert 0 <= content["summary"]["bleu"] <= 100 and len(content["translations"]) == 2
    assert "tok:13a" in content["signature"] and "case:mixed" in content["signature"]


def test_sacrebleu_by_hand():
    score, _ = translate.bleu(GERMAN[:3], GERMAN[:3])
    assert score == pytest.approx(100)
    assert translate.bleu(["Ein Mann."] * 3, GERMAN[:3])[0] < 30


def test_the_real_files(data_dir, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(data_dir(multi30k.NAME).parent))
    corpus = record.load()
    few = multi30k.Pairs(*(part[:200] for part in corpus.train))
    job = record.prepare(
        dataclasses.replace(TINY, symbols=400, length=64), corpus._replace(train=few)
    )
    assert job.train[0].shape == job.train[1].shape and 190 < len(job.train[0]) <= 200
    assert job.references == corpus.test.german[:2]
    assert pieces.decode(job.pieces, job.test[1])[0] == corpus.test.german[0]


def fake(folder, run, score):
    content = {
        **dataclasses.asdict(run),
        "summary": {
            "bleu": score,
            "bleu_at_best": score + 1,
            "validation": 1.5,
            "density": 1 - run.sparsity,
            "mflops": 12.345,
        },
        "signature": "how",
        "setting_of_run": dataclasses.asdict(runs.SETTINGS[run.setting]),
        "wall_seconds": 1234.5,
    }
    (folder / f"{run.name}.json").write_text(json.dumps(content))


def test_the_report_is_made_from_files_alone(tmp_path):
    for run in runs.grid("full"):
        fake(tmp_path, run, 30.0 + run.seed)
    report.write(tmp_path)
    written = (tmp_path / "tables.md").read_text()
    assert "### `full`: 76,840 updates, batch 128" in written and "`how`" in written
    row = "| C-GaP | 3 | 0.100 | 31.00 ± 1.00 | 32.00 ± 1.00 | 1.500 ± 0.000 | 12.3 | 1,234 |"
    assert row in written


def test_the_readme_shows_the_tables_of_the_committed_results():
    wanted = report.text(report.load(report.RESULTS))
    assert (report.RESULTS / "tables.md").read_text() == wanted
    assert wanted.strip() in report.README.read_text()


def test_the_command_line_runs_the_asked_methods(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command, "record", lambda run, out: seen.append(run) or True)
    monkeypatch.setattr(command.report, "write", lambda out: None)
    command.main(["--setting=short", "--only=dense", "--only=C-GaP", f"--out={tmp_path}"])
    assert [run.method for run in seen] == ["dense", "C-GaP"]
    assert "2 of 2" in capsys.readouterr().out
