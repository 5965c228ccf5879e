import numpy as np
import pytest

from sparsetrain import data
from sparsetrain.data import cifar10_png
from sparsetrain.data.files import DamagedError

Image = pytest.importorskip("PIL.Image")

# As if there were two images a file.
EACH = 2


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(cifar10_png, "EACH", EACH)
    monkeypatch.setattr(cifar10_png, "TRAIN", {f"cifar10_batch_{i}.png": 2 * i for i in range(6)})
    monkeypatch.setattr(cifar10_png, "TEST", {"cifar10_batch_50.png": 100})


def pixels(batch, size=1024):
    return np.random.default_rng(batch).integers(0, 256, [EACH, size, 3]).astype(np.uint8)


def files(folder, labels=51 * EACH):
    folder.mkdir(exist_ok=True)
    for batch in (*range(6), 50):
        Image.fromarray(pixels(batch)).save(folder / f"cifar10_batch_{batch}.png")
    numbers = ", ".join(str(number % 10) for number in range(labels))
    (folder / cifar10_png.LABELS).write_text(f"var labels=[{numbers}];\n")
    return folder


def test_pixels_and_labels_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_DATA", str(files(tmp_path / cifar10_png.NAME).parent))
    found = data.load(cifar10_png.NAME)
    np.testing.assert_array_equal(found.test.images, pixels(50).reshape(EACH, 32, 32, 3))
    assert found.test.labels.tolist() == [0, 1] and found.test.labels.dtype == np.int32
    images = np.concatenate([found.train.images, found.validation.images])
    expected = np.concatenate([pixels(batch) for batch in range(6)]).reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(images, expected)
    labels = np.concatenate([found.train.labels, found.validation.labels])
    np.testing.assert_array_equal(labels, np.arange(12) % 10)


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no cifar10_labels\.js"):
        data.load(cifar10_png.NAME, tmp_path)
    with pytest.raises(DamagedError, match=r"labels\.js holds 99 labels where 102"):
        cifar10_png.load(files(tmp_path, labels=99))
    path = files(tmp_path) / cifar10_png.LABELS
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedError, match=r"labels\.js holds no 'labels=\[...\]', or was cut"):
        cifar10_png.load(tmp_path)
    path = files(tmp_path) / "cifar10_batch_3.png"
    whole = path.read_bytes()
    for broken in (whole[:3000], b"", whole[:2000] + b"\0" * 9 + whole[2009:]):
        path.write_bytes(broken)
        with pytest.raises(DamagedError, match=r"batch_3\.png is no whole PNG"):
            cifar10_png.load(tmp_path)
    Image.fromarray(pixels(3, size=512)).save(path)
    with pytest.raises(DamagedError, match=r"batch_3\.png holds uint8\[2, 512, 3\]"):
        cifar10_png.load(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no cifar10_batch_3\.png"):
        cifar10_png.load(tmp_path)


@pytest.mark.needs_data(cifar10_png.NAME)
def test_the_real_files(data_dir, monkeypatch):
    monkeypatch.undo()
    found = cifar10_png.load(data_dir(cifar10_png.NAME))
    assert [len(part.labels) for part in found] == [3_667, 333, 1_000]
    assert found.train.images[0, 0, 0].tolist() == [59, 62, 63]
    assert found.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert found.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    # The grey value of CIFAR-10 is about 121.
    assert 115 < found.train.images.mean() < 127
