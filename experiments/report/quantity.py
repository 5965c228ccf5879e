"""What a field of a record is: its title, its unit, how it is written, and which way is better."""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from experiments import sent

# Scores that are fractions and are written in per cent; a score in per cent already is above 1.
_PRECISION = r"(?<![a-z])ap(?:50|75|_small|_medium|_large)?(?![a-z])"
_FRACTIONS = rf"accuracy|uas|las|f1|iou|top_?\d|bleu|{_PRECISION}"
# Anything else that says how good a model is.
_SCORES = rf"{_FRACTIONS}|perplexity|score|bits_per_\w+|average_precision|\bmap\b"
_LOWER = r"loss|perplexity|error|bits|bytes|flops|seconds|angle|spread"
_ABBREVIATIONS = {
    "uas": "UAS",
    "las": "LAS",
    "bleu": "BLEU",
    "map": "mAP",
    "f1": "F1",
    "iou": "IoU",
    "miou": "mIoU",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
}
_TITLES = {
    "train_loss": "training loss",
    "loss": "training loss",
    "bits_sent": "bits sent",
    "bits": "bits sent",
    "wire_bytes": "bytes on the wire",
    "dense_bits": "bits if dense",
    "moved_bytes": "bytes moved by collectives",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
    "kept_fraction": "kept in the backward pass",
    "density": "live weights",
    "final_density": "live weights",
    "seconds_per_step": "time per step",
}
_RADIANS = 180 / math.pi


class Quantity(NamedTuple):
    """How a field is shown.

    Attributes:
      title: in words, without the unit.
      unit: of what is shown; "" for a bare number.
      factor: what is shown over what is recorded.
      style: "fixed" (a decimal or two), "prefixed" (decimal prefixes), "times" (a ratio) or "plain"
        (three digits).
      better: "higher", "lower" or "" where neither is.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    style: str = "plain"
    better: str = ""

    @property
    def heading(self) -> str:
        """Title and unit, where the unit does not stand beside each number."""
        return (
            f"{self.title}, {self.unit}" if self.unit and self.style != "prefixed" else self.title
        )


def is_score(name: str) -> bool:
    """Whether a field says how good a model is; a loss does not count.

    Example:
      >>> [is_score(name) for name in ("test_accuracy", "bleu_at_best", "validation_score", "train_loss")]
      [True, True, True, False]
    """
    return re.search(_SCORES, name) is not None and not name.endswith("loss")


def of(name: str, values: Iterable[float] = (), score_name: str | None = None) -> Quantity:
    """What a field is, from its name.

    Args:
      name: of the field, such as "test_accuracy" or "gradient_angle/hidden_0/kernel".
      values: some that were recorded: an accuracy is a fraction unless one is above 1.
      score_name: of the task, where the field is called "score" in general.

    Returns:
      `Quantity`; a field that nobody knows is its own title.

    Example:
      >>> of("test_accuracy", [0.5]).heading, of("test_score", [27.1], "bleu").heading
      ('test accuracy, %', 'test BLEU')
      >>> of("test_bleu", [0.271]).heading, of("test_ap50", [0.6]).heading
      ('test BLEU, %', 'test AP50, %')
      >>> of("bits_sent").style, of("gradient_angle/hidden_0/kernel").heading
      ('prefixed', 'gradient angle hidden_0/kernel, °')
    """
    if score_name:
        name = re.sub(r"\bscore\b|(?<=_)score\b|\bscore(?=_)", score_name, name)
    whole, _, rest = name.partition("/")
    words = [_ABBREVIATIONS.get(word, word) for word in whole.split("_")]
    title = " ".join(filter(None, [_TITLES.get(whole, " ".join(words)), rest]))
    lower = re.search(_LOWER, whole)
    better = "lower" if lower else "higher" if is_score(whole) or "ratio" in whole else ""
    known = [value for value in values if value is not None]
    if re.search(_FRACTIONS, whole) and all(value <= 1 for value in known):
        return Quantity(title, "%", 100.0, "fixed", "higher")
    if "angle" in whole:
        return Quantity(title, "°", _RADIANS, "fixed", better)
    if "bits_per" in whole:
        return Quantity(title, "bit", 1.0, "plain", "lower")
    if re.search(r"bytes", whole):
        return Quantity(title, "B", 1.0, "prefixed", better)
    if re.search(r"bits", whole):
        return Quantity(title, "bit", 1.0, "prefixed", better)
    if re.search(r"flops", whole):
        mega = 1e6 if whole.startswith("m") else 1.0
        title = re.sub(r"^m?flops|m?flops", "FLOPs", title)
        return Quantity(title, "FLOP", mega, "prefixed", better)
    if "seconds" in whole:
        return Quantity(title.replace("seconds", "time"), "s", 1.0, "prefixed", better)
    if whole.endswith("ratio"):
        return Quantity(title, "\N{MULTIPLICATION SIGN}", 1.0, "times", better)
    if whole.endswith("loss"):
        return Quantity(title, "nats", 1.0, "plain", better)
    return Quantity(title, better=better)


def text(quantity: Quantity, mean: float | None, std: float | None = None) -> str:
    """A recorded number as it is shown, with its spread if there is one.

    Args:
      quantity: of the field.
      mean: as recorded; None for "not measured".
      std: as recorded.

    Returns:
      Without the unit where `Quantity.heading` has it.

    Example:
      >>> text(of("test_accuracy"), 0.95312, 0.0041), text(of("bits_sent"), 1234567, 2000.0)
      ('95.3 ± 0.4', '1.23 Mbit')
      >>> text(of("seconds_per_step"), 0.00834), text(of("compression_ratio"), 812.3), text(of("density"), 0.1)
      ('8.34 ms', '812', '0.100')
    """
    if mean is None:
        return "-"
    mean *= quantity.factor
    std = None if std is None else std * quantity.factor
    unit = ""
    if quantity.style == "prefixed" and mean:
        power = sent.power(mean)
        unit = f" {sent.prefix(power)}{quantity.unit}"
        mean, std = mean / 1000.0**power, None if std is None else std / 1000.0**power
    elif quantity.style == "prefixed":
        unit = f" {quantity.unit}"
    digits = decimals(mean, std, quantity.style)
    # Of what is counted or given, a spread of nothing is no news; of a score it is.
    if std is None or (quantity.style != "fixed" and round(std, digits) == 0):
        return plain(mean, digits) + unit
    return f"{plain(mean, digits)} ± {plain(std, digits)}{unit}"


def decimals(mean: float, std: float | None, style: str) -> int:
    """Digits behind the point: as many as the spread supports, three in all where there is none.

    Example:
      >>> decimals(95.3, 0.41, "fixed"), decimals(95.3, 0.04, "fixed"), decimals(0.01234, None, "plain")
      (1, 2, 4)
    """
    if style == "fixed":
        return 2 if std and std < 0.095 else 1
    if not math.isfinite(mean) or mean == 0:
        return 0
    three = max(0, min(6, 2 - math.floor(math.log10(abs(float(f"{mean:.3g}"))))))
    if not std or style in ("prefixed", "times"):
        return three
    return max(0, min(three + 1, 6, -math.floor(math.log10(std))))


def plain(number: float, digits: int) -> str:
    r"""A number with so many digits behind the point, a true minus, and powers of ten where it is extreme.

    Example:
      >>> plain(0.1, 3), plain(12345.0, 0), plain(-2.5, 1) == "\N{MINUS SIGN}2.5", plain(1e-9, 6)
      ('0.100', '12,345', True, '1e-09')
    """
    if number and abs(number) < 10.0**-5:
        return f"{number:.1e}".replace(".0e", "e")
    return f"{number:,.{digits}f}".replace("-", "\N{MINUS SIGN}", 1)
