"""Folders of runs as `experiments.main` leaves them, made without training."""

import json


def write_run(folder, rule="dense", seed=0, ends=0.9, epochs=3, **changes):
    """A finished run; its test accuracy rises to `ends`."""
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "epochs": epochs,
        "backward": {"rule": rule, "density": 0.1},
        "compress": {"name": "none", "density": 0.01},
        "model": {"hidden": [4, 4]},
    }
    config |= changes.pop("config", {})
    records = [
        {
            "step": 10 * epoch,
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "validation_accuracy": 0.5,
            "test_accuracy": ends * epoch / epochs,
            "bits_sent": 1000 * epoch,
            "seconds_per_step": 0.002,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (folder / "summary.json").write_text(json.dumps(records[-1] | {"best_epoch": 3} | changes))
    return folder


def write_broken(folder):
    """A run that was killed while it wrote its second record."""
    write_run(folder, rule="top_k", seed=7)
    (folder / "summary.json").unlink()
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text[: len(text) // 2])
    return folder
