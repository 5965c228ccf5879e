import numpy as np
import pytest

from sparsetrain.data import boxes
from sparsetrain.data.boxes import Annotation


def annotation(*rows):
    table = np.array(rows, float).reshape(-1, 4)
    return Annotation((10, 20), table, np.arange(len(rows), dtype=np.int32))


def test_images_have_as_many_rows_as_the_fullest_needs():
    found, classes = boxes.padded([annotation(), annotation((0, 0, 10, 20), (5, 5, 10, 10))])
    assert found.shape == (2, 2, 4) and found.dtype == np.float32
    assert found[1].tolist() == [[0, 0, 1, 1], [0.5, 0.25, 1, 0.5]]
    assert classes.tolist() == [[-1, -1], [0, 1]] and not found[0].any()
    with pytest.raises(ValueError, match="image 0 has 2 boxes, more than most=1"):
        boxes.padded([annotation((0, 0, 1, 1), (0, 0, 1, 1))], most=1)


def test_lines_and_points_have_no_area():
    found = boxes.with_area(annotation((1, 1, 1, 5), (1, 1, 5, 1), (3, 3, 3, 3), (1, 1, 2, 2)))
    assert found.classes.tolist() == [3] and found.boxes.tolist() == [[1, 1, 2, 2]]
