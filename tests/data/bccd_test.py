import io
import tarfile

import numpy as np
import pytest

from sparsetrain.data import bccd
from sparsetrain.data.files import DamagedError

Image = pytest.importorskip("PIL.Image")

# Left, top, right, bottom in an image of 8 x 4 pixels.
BOXES = {"a": [("RBC", 0, 0, 4, 4), ("RBC", 3, 3, 3, 3)], "b": [("WBC", 2, 1, 8, 2)], "c": []}


def xml(boxes, width=8):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in boxes
    )
    size = f"<size><width>{width}</width><height>4</height></size>"
    return f"<annotation>{size}{objects}</annotation>".encode()


def jpeg(grey):
    content = io.BytesIO()
    Image.fromarray(np.full((4, 8, 3), grey, np.uint8)).save(content, "JPEG")
    return content.getvalue()


def archive(folder, **changed):
    """One image a part; `changed` replaces files, or leaves them out if None."""
    files = {"LICENSE": b"MIT"}
    for (name, boxes), stem in zip(BOXES.items(), ("train", "val", "test"), strict=True):
        files[f"BCCD/Annotations/{name}.xml"] = xml(boxes)
        files[f"BCCD/JPEGImages/{name}.jpg"] = jpeg(20 * ord(name) % 256)
        files[f"BCCD/ImageSets/Main/{stem}.txt"] = f"{name}\n".encode()
    for name, content in changed.items():
        (path,) = [path for path in files if path.endswith(f"/{name.replace('_', '.')}")]
        files[path] = content
    with tarfile.open(folder / bccd.ARCHIVE, "w:xz") as tar:
        for name, content in files.items():
            if content is not None:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def test_boxes_are_shares_of_the_image(tmp_path):
    found = bccd.load(archive(tmp_path), size=6)
    for part, name in zip(found, "abc", strict=True):
        assert part.names == (name,) and part.images.shape == (1, 6, 6, 3)
        assert part.boxes.shape == (1, 1, 4) and part.classes.shape == (1, 1)
        np.testing.assert_allclose(part.images, 20 * ord(name) % 256, atol=2)
    assert found.train.boxes.tolist() == [[[0, 0, 0.5, 1]]]
    assert found.validation.boxes.tolist() == [[[0.25, 0.25, 1, 0.5]]]
    assert [part.classes.tolist() for part in found] == [[[0]], [[1]], [[-1]]]
    # The point in a.
    assert [part.empty for part in found] == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a_xml", b"<annotation>", r"Annotations/a\.xml is no XML"),
        ("a_xml", xml([("RBC", 0, 0, "", 4)]), r"a\.xml has bndbox/xmax '' where a number"),
        ("a_xml", xml([("RBC", 0, 0, "nan", 4)]), r"a\.xml has bndbox/xmax 'nan'"),
        ("a_xml", xml([("cell", 0, 0, 4, 4)]), r"a\.xml has the class 'cell', none of RBC"),
        ("a_xml", xml([("RBC", 5, 0, 4, 4)]), r"a\.xml has the box .* turned round"),
        ("a_xml", xml([("RBC", 0, 0, 4, 5)]), r"a\.xml has the box .* not inside 8 x 4"),
        ("a_xml", xml([], width=0), r"a\.xml gives the image 0 x 4 pixels"),
        ("a_xml", xml([], width=9), r"a\.jpg has \(8, 4\) pixels where .* \(9, 4\)"),
        ("b_jpg", jpeg(9)[:-40], r"JPEGImages/b\.jpg is no whole image"),
        ("b_jpg", b"GIF", r"JPEGImages/b\.jpg is no whole image"),
        ("b_jpg", None, r"lacks JPEGImages/b\.jpg"),
        ("test_txt", None, r"lacks ImageSets/Main/test\.txt"),
    ],
)
def test_odd_files_are_named(tmp_path, name, content, message):
    with pytest.raises(DamagedError, match=message):
        bccd.load(archive(tmp_path, **{name: content}))


def test_an_archive_that_is_absent_or_cut(tmp_path):
    with pytest.raises(FileNotFoundError, match="put the archive there"):
        bccd.load(tmp_path)
    path = archive(tmp_path) / bccd.ARCHIVE
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:100] + b"\0" * 50 + whole[150:]):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"BCCD\.tar\.xz"):
            bccd.load(tmp_path)


@pytest.mark.needs_data(bccd.NAME)
def test_the_real_archive(data_dir):
    found = bccd.load(data_dir(bccd.NAME), size=32)
    assert [len(part.names) for part in found] == [205, 87, 72]
    classes = np.concatenate([part.classes for part in found]).ravel()
    assert np.bincount(classes[classes >= 0]).tolist() == [4_155 - 2, 372, 361]
    assert sum(part.empty for part in found) == 2
    for part in found:
        real = part.boxes[part.classes >= 0]
        assert real.min() >= 0 and real.max() <= 1 and np.all(real[:, :2] < real[:, 2:])
        assert part.boxes.shape[1] == 30
