import io
import tarfile

import numpy as np
import pytest

from sparsetrain import data
from sparsetrain.data import cifar10_jpeg

Image = pytest.importorskip("PIL.Image")


def archive(folder, classes=cifar10_jpeg.CLASSES, size=32, each=3):
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / cifar10_jpeg.ARCHIVE, "w:xz") as tar:
        for part in ("train", "test"):
            for label, name in enumerate(classes):
                for number in range(each):
                    content = io.BytesIO()
                    grey = np.full((size, size, 3), 20 * label + number, np.uint8)
                    Image.fromarray(grey).save(content, "JPEG")
                    info = tarfile.TarInfo(f"{part}/{name}/{number:04}.jpg")
                    info.size = content.tell()
                    content.seek(0)
                    tar.addfile(info, content)
        note = tarfile.TarInfo("README.md")
        tar.addfile(note, io.BytesIO())
    return folder


def test_classes_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(archive(tmp_path / "cifar10-jpeg").parent))
    found = data.load("cifar10-jpeg")
    assert found.test.labels.tolist() == [*range(10)] * 3
    assert found.train.images.shape == (28, 32, 32, 3) and len(found.validation.labels) == 2
    assert found.train.images.dtype == np.uint8
    # One grey each, which JPEG keeps to a level or so.
    expected = 20 * found.test.labels + np.arange(30) // 10
    np.testing.assert_allclose(found.test.images.mean((1, 2, 3)), expected, atol=1.5)
    few = cifar10_jpeg.load(tmp_path / "cifar10-jpeg", limit=2)
    np.testing.assert_array_equal(few.test.images, found.test.images[:20])


def test_damaged_archives(tmp_path):
    with pytest.raises(FileNotFoundError, match="put the archive there"):
        data.load("cifar10-jpeg", tmp_path)
    with pytest.raises(ValueError, match="no images in train/ of ship, truck"):
        cifar10_jpeg.load(archive(tmp_path, cifar10_jpeg.CLASSES[:8]))
    with pytest.raises(ValueError, match="not 32 x 32"):
        cifar10_jpeg.load(archive(tmp_path, size=16))
    path = archive(tmp_path) / cifar10_jpeg.ARCHIVE
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:1000], whole[:middle] + b"\0" * 50 + whole[middle + 50 :]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            cifar10_jpeg.load(tmp_path)


def test_classes_that_lack_images(tmp_path):
    path = archive(tmp_path) / cifar10_jpeg.ARCHIVE
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w:xz") as tar:
        # Without the note and the last truck.
        for member, content in members[:-2]:
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"from 2 to 3 images in test/"):
        cifar10_jpeg.load(tmp_path)


def test_the_real_archive(data_dir):
    found = cifar10_jpeg.load(data_dir("cifar10-jpeg"), limit=30)
    assert found.train.images.shape == (275, 32, 32, 3)
    assert np.bincount(found.test.labels).tolist() == [30] * 10
    assert 110 < found.train.images.mean() < 130
