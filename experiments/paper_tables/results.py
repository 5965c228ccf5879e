"""Result files by part, row and seed, and the score that a part is about."""

from collections.abc import Mapping
from pathlib import Path

from experiments.paper_tables import runs
from experiments.results import Record, read

# Row -> seed -> content of the result file.
Cells = Mapping[str, Mapping[int, Record]]
# Score -> its heading, and what a value of a summary is multiplied by.
SCORES = {
    "accuracy": ("accuracy, %", 100),
    "uas": ("UAS, %", 100),
    "bleu": ("BLEU", 100),
    "perplexity": ("perplexity", 1),
    "ap50": ("AP at IoU .5, %", 100),
    "instance_miou": ("instance mIoU, %", 100),
}


def load(out: Path) -> dict[str, dict[str, dict[int, Record]]]:
    """Part -> row -> seed -> content of the result file.

    Raises:
      ValueError: no results there.
    """
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for record in read(out, "python -m experiments.paper_tables  first"):
        of_part = found.setdefault(record["part"], {})
        of_part.setdefault(record["row"], {})[record["seed"]] = record
    return {part: found[part] for part in runs.PARTS if part in found}


def scores(part: runs.Part, records: Mapping[int, Record], split: str) -> dict[int, float]:
    """Seed -> score of "validation" or "test" after the last step."""
    times = SCORES[part.score][1]
    name = f"{split}_{part.score}"
    return {seed: times * record["summary"][name] for seed, record in records.items()}
