import sys

import numpy as np
import pytest

from sparsetrain.analysis import average_precision

# Two images of 100 x 100; rows of label 0 are padding.
TRUE = [
    (np.array([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]), np.array([1, 2])),
    (np.array([[0.2, 0.2, 0.6, 0.6], [0, 0, 0, 0]]), np.array([1, 0])),
]
SIZES = [(100, 100), (100, 100)]


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match="detection"):
        average_precision([], [], [])


def test_what_is_all_right_has_one():
    pytest.importorskip("pycocotools")
    found = [(corners, labels, np.full(2, 0.9)) for corners, labels in TRUE]
    figures = average_precision(found, TRUE, SIZES)
    assert [figures[name] for name in ("AP", "AP75", "AR_100")] == pytest.approx([1, 1, 1])
    # 30 x 30 pixels are small, 40 x 40 are medium.
    assert [figures[f"AP_{size}"] for size in ("small", "medium")] == pytest.approx([1, 1])
    assert figures["AP_large"] == -1
    nothing = [(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))] * 2
    assert average_precision(nothing, TRUE, SIZES)["AP"] == 0


def test_a_wrong_one_between_by_hand():
    pytest.importorskip("pycocotools")
    # Class 1, by score: right, wrong, right. Precision 1 up to a recall of one half, then 2 / 3.
    elsewhere = [0.7, 0.0, 0.9, 0.2]
    found = [
        (np.array([TRUE[0][0][0], elsewhere]), np.array([1, 1]), np.array([0.9, 0.8])),
        (TRUE[1][0], np.array([1, 0]), np.array([0.7, 0.0])),
    ]
    true = [(corners[:1], labels[:1]) for corners, labels in TRUE]
    figures = average_precision(found, true, SIZES)
    # Precision is read at the recalls 0, .01, .. 1.
    assert figures["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)
    with pytest.raises(ValueError, match="2, 2 and 1 images"):
        average_precision(found, true, SIZES[:1])
