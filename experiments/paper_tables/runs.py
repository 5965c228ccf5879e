"""The grid: rows of the papers' tables in their small variant, longer here than the configs ask for, over seeds."""

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

SMALL = "_small"


class Line(NamedTuple):
    """A method of a part.

    Attributes:
      label: in the table.
      row: of the config module.
      changes: fields of this method alone, by their dotted names.
      name: of its results; None for the row's.
    """

    label: str
    row: str
    changes: Mapping[str, Any] = {}
    name: str | None = None

    @property
    def key(self) -> str:
        """Which results are this line's."""
        return self.name or self.row


class Part(NamedTuple):
    """A task of a table.

    Attributes:
      title: network and data.
      table: module of `configs`.
      score: name of the score in a run's summary, behind `test_`.
      lines: first the one that others are compared with.
      changes: fields of the small config that are others here, by their dotted names.
      seeded: fields that have the seed's number as well.
    """

    title: str
    table: str
    score: str
    lines: tuple[Line, ...]
    changes: Mapping[str, Any]
    seeded: tuple[str, ...] = ()


def _backward(job: str, decay: float, **changes: Any) -> tuple[Line, ...]:
    """Dense, SBP and MSBP."""
    return (
        Line("dense", f"{job}_dense"),
        # Of the rules that would take a decay, SBP is the one without.
        Line("SBP", f"{job}_sbp", {**changes, "backward.decay": 0.0}),
        Line(f"MSBP, decay {decay:g}", f"{job}_msbp", changes),
    )


def _pruned(percent: int, row: str) -> tuple[Line, ...]:
    """Pruned from dense at half time, and C-GaP: 2 rounds of 4 phases of 50 steps, 200 steps of fine-tuning.

    Each stretch has its learning rate fall at two thirds and five sixths of it.
    """
    density = {"masks.density": (100 - percent) / 100}
    halves, phase, fine = (200, 250), (33, 41), (133, 166)
    pruned = {"masks.name": "one_shot", "masks.at": 300, "optimizer.boundaries": halves}
    cyclic = {"masks.steps_per_phase": 50, "masks.phases": 8, "optimizer.boundaries": phase}
    ends = [{"masks.fine_tune": (("boundaries", each),)} for each in (halves, fine)]
    return (
        Line(
            f"prune from dense, {percent}%",
            row,
            {**density, **pruned, **ends[0]},
            f"pruned_{percent}",
        ),
        Line(f"C-GaP, {percent}%", row, {**density, **cyclic, **ends[1]}, f"c_gap_{percent}"),
    )


# As long as those, without a pruning.
_UNPRUNED = Line("dense", "dense", {"optimizer.boundaries": (400, 500)})


def _sentences(job: str, title: str, decay: float) -> Part:
    # The maximum over time passes back one place of a map: by examples SBP would keep all. So maps are chosen.
    lines = _backward(job, decay, **{"backward.rule": "unified_top_k"})
    changes = {"epochs": 4, "model.maps": 32, "model.embedding": 50}
    return Part(title, "msbp_table3", "accuracy", lines, changes, seeded=("task.fold",))


def _exchanged(job: str) -> tuple[Line, ...]:
    """What four workers send, and how often."""
    return (
        Line("every step, dense", f"{job}_baseline"),
        Line("gradient dropping, .1%", f"{job}_gradient_dropping"),
        Line("FedAvg, every 100", f"{job}_federated_averaging"),
        Line("SBC(1)", f"{job}_sbc1"),
        Line("SBC(2)", f"{job}_sbc2"),
        Line("SBC(3)", f"{job}_sbc3"),
    )


PARTS = {
    "tagging": Part(
        "2-layer Bi-LSTM 2 x 64, UD English EWT",
        "msbp_table2",
        "accuracy",
        (
            *_backward("pos", 0.8),
            # Words behind the end of a sentence take, and waste, what others are owed.
            Line(
                "MSBP, in padding too, decay 0.8",
                "pos_msbp",
                {"backward.padded": False},
                "pos_msbp_padding",
            ),
        ),
        {"epochs": 6, "data.batch_size": 64},
    ),
    "parsing": Part(
        "MLP 200, UD English EWT",
        "msbp_table2",
        "uas",
        _backward("parsing", 0.7),
        {"epochs": 3, "data.batch_size": 256, "model.hidden": 200},
    ),
    "subjectivity": _sentences("subjectivity", "TextCNN 3/4/5 x 32, subjectivity", 0.6),
    "polarity": _sentences("polarity", "TextCNN 3/4/5 x 32, polarity", 0.3),
    "translation": Part(
        "LSTM 1 + 1 x 128 with attention, Multi30k En-De",
        "msbp_table4",
        "bleu",
        _backward("en_vi", 0.05),
        {"epochs": 3, "model.hidden": 128, "model.embedding": 128, "model.dropout": 0.2}
        # Rarer words are unknown: half of a step is the product with the output's vocabulary.
        | {"task.least": 5},
    ),
    "cells": Part(
        "SSD300 of width 8, blood cells (BCCD)",
        "gap_table2",
        "ap50",
        (_UNPRUNED, *_pruned(80, "c_gap"), *_pruned(90, "c_gap")),
        {
            "steps": 600,
            "epochs": 24,
            "optimizer.learning_rate": 0.02,
            "optimizer.warmup_steps": 10,
        },
    ),
    "images": Part(
        "ResNet-8, CIFAR-10 JPEG, 4 workers",
        "sbc_table1",
        "accuracy",
        _exchanged("resnet32"),
        {
            "steps": 400,
            "epochs": 1,
            "data.name": "cifar10-jpeg",
            "data.batch_size": 16,
        },
    ),
    "resnet32": Part(
        "ResNet-32, CIFAR-10 JPEG, 4 workers",
        "sbc_table1",
        "accuracy",
        _exchanged("resnet32"),
        {
            "steps": 1000,
            "epochs": 2,
            "eval_every": 2,
            "model.blocks": 5,
            "data.name": "cifar10-jpeg",
            "data.batch_size": 16,
        },
    ),
    "words": Part(
        "WordLSTM 2 x 64, War and Peace, 4 workers",
        "sbc_table1",
        "perplexity",
        _exchanged("word_lstm"),
        {"steps": 1000, "epochs": 8},
    ),
    "shapes": Part(
        "PointNet++ of two levels, drawn shapes",
        "gap_table3",
        "instance_miou",
        (_UNPRUNED, *_pruned(80, "c_gap_80"), *_pruned(90, "c_gap_90")),
        # The paper's .001 is for a hundred times as many steps; after 150 of them .05 was better than .01.
        {"steps": 600, "epochs": 24, "eval_every": 4, "optimizer.learning_rate": 0.05},
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      part: key of `PARTS`.
      row: key of one of its lines.
      seed: fixes initialisation, batches and dropout, the same for all rows.
    """

    part: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        """Stem of the result file.

        Example:
          >>> Run("tagging", "pos_msbp", 0).name
          'tagging_pos_msbp_seed0'
        """
        return f"{self.part}_{self.row}_seed{self.seed}"

    def config(self) -> ml_collections.ConfigDict:
        """What `sparsetrain.training` takes.

        Example:
          >>> config = Run("tagging", "pos_msbp", 0).config()
          >>> config.backward.rule, config.backward.density, config.epochs
          ('memorized_top_k', 0.04, 6)
        """
        part = PARTS[self.part]
        (line,) = [line for line in part.lines if line.key == self.row]
        module = importlib.import_module(f"configs.{part.table}")
        config: ml_collections.ConfigDict = module.get_config(line.row + SMALL)
        config.seed = self.seed
        with config.ignore_type():
            config.update_from_flattened_dict({**part.changes, **line.changes})
            config.update_from_flattened_dict(dict.fromkeys(part.seeded, self.seed))
        config.checkpoint_every = config.epochs
        return config


def grid(seeds: int, parts: tuple[str, ...] = tuple(PARTS)) -> Iterator[Run]:
    """All rows of a seed come before the next seed, so that a grid cut short is balanced."""
    for seed in range(seeds):
        for part in parts:
            for line in PARTS[part].lines:
                yield Run(part, line.key, seed)
