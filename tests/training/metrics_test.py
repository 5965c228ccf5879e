import json
import subprocess
import sys

import pytest

from sparsetrain.training import metrics


def test_lines_are_whole_json_with_their_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = metrics.JsonLines(path)
    writer.write(3, {"loss": 0.5, "angle": None})
    writer.write(6, {"loss": float("nan"), "angle": float("inf")})
    lines = [json.loads(line) for line in path.read_text().splitlines()]  # Before it is closed.
    assert lines == [
        {"step": 3, "loss": 0.5, "angle": None},
        {"step": 6, "loss": None, "angle": None},
    ]
    assert writer.history == lines == metrics.read(path)


def test_resume_cuts_back_to_the_restored_step_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    writer = metrics.JsonLines(path, resume_step=2)
    writer.write(4, {})
    writer.close()
    assert [record["step"] for record in metrics.read(path)] == [1, 2, 4]


def test_resume_at_zero_starts_an_empty_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    metrics.JsonLines(path, resume_step=0).close()
    assert path.read_text() == ""


def test_replace_text_leaves_the_old_text_until_the_new_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    metrics.replace_text(path, "old")
    monkeypatch.setattr(
        metrics.os, "fsync", lambda number: (_ for _ in ()).throw(OSError("killed"))
    )
    with pytest.raises(OSError, match="killed"):
        metrics.replace_text(path, "new")
    assert path.read_text() == "old"


def test_tensorboard_events_without_tensorflow(tmp_path):
    pytest.importorskip("tensorboard")
    script = (
        "import sys; from sparsetrain.training.metrics import TensorBoard\n"
        f"writer = TensorBoard({str(tmp_path)!r})\n"
        "writer.write(7, {'loss': 0.25, 'angle': None}); writer.close()\n"
        "from tensorboard.backend.event_processing import event_file_loader as loader\n"
        f"import glob; (path,) = glob.glob({str(tmp_path)!r} + '/*tfevents*')\n"
        "assert 'tensorflow' not in sys.modules\n"
        "for event in loader.EventFileLoader(path).Load():\n"
        "    print([(event.step, value.tag) for value in event.summary.value])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "(7, 'loss')" in done.stdout
    assert "angle" not in done.stdout
