import gzip
import shutil

import numpy as np
import pytest

from sparsetrain import data
from sparsetrain.data import idx, source

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def write(path, array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def make(folder, first=0, train=24, test=6, size=4):
    """Four files; an image holds its label in every pixel."""
    folder.mkdir(parents=True)
    for (images, labels), count in ((FILES[:2], train), (FILES[2:], test)):
        classes = (np.arange(count) + first) % 10
        write(folder / images, np.broadcast_to(classes[:, None, None], (count, size, size)))
        write(folder / labels, classes)
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No data but those that a test makes."""
    monkeypatch.delenv("SPARSETRAIN_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def first_label(dataset):
    return int(dataset.train.labels[0])


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_explicit_path(tmp_path, name):
    found = data.load(name, make(tmp_path / "here"))
    assert [len(part.labels) for part in found] == [22, 2, 6]
    for part in found:
        assert part.images.shape == (len(part.labels), 4, 4, 1)
        np.testing.assert_array_equal(part.images[:, 2, 1, 0], part.labels)


def test_order_of_places(tmp_path, monkeypatch):
    make(tmp_path / "variable" / "mnist", first=2)
    explicit = make(tmp_path / "explicit", first=1)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path / "variable"))
    assert first_label(data.load("mnist", explicit)) == 1
    assert first_label(data.load("mnist", str(explicit))) == 1
    assert first_label(data.load("mnist")) == 2


def test_each_name_has_its_folder(tmp_path, monkeypatch):
    of_files = [name for name, origin in source.ORIGINS.items() if origin.train]
    for first, name in enumerate(of_files):
        make(tmp_path / name, first=first)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    assert [first_label(data.load(name)) for name in of_files] == [0, 1]


def test_unpacked_files_are_read(tmp_path):
    folder = make(tmp_path / "here")
    for name in FILES[:3]:
        content = gzip.decompress((folder / name).read_bytes())
        (folder / name.removesuffix(".gz")).write_bytes(content)
        (folder / name).unlink()
    assert len(data.load("mnist", folder).test.labels) == 6


def test_nowhere_names_the_files_and_the_places(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="SPARSETRAIN_DATA") as error:
        data.load("mnist")
    assert all(name in str(error.value) for name in FILES)
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "typo")):
        data.load("mnist")


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_a_path_that_is_no_folder(tmp_path, kind):
    path = tmp_path / "here"
    if kind == "file":
        path.touch()
    with pytest.raises(FileNotFoundError, match="is not a folder") as error:
        data.load("mnist", path)
    assert str(path) in str(error.value)
    assert FILES[0] in str(error.value)


@pytest.mark.parametrize("explicit", [True, False])
def test_missing_files_are_named_and_not_passed_over(tmp_path, monkeypatch, explicit):
    folder = make(tmp_path / "mnist")
    for name in FILES[1:3]:
        (folder / name).unlink()
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"lacks {FILES[1]}, {FILES[2]}:"):
        data.load("mnist", folder if explicit else None)


def test_damaged_and_mismatched_files(tmp_path):
    folder = make(tmp_path / "here")
    whole = (folder / FILES[0]).read_bytes()
    (folder / FILES[0]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(idx.TruncatedError, match=FILES[0]):
        data.load("mnist", folder)
    write(folder / FILES[0], np.zeros([23, 4, 4]))
    with pytest.raises(idx.MismatchError, match=r"23 images .* 24 labels"):
        data.load("mnist", folder)
    write(folder / FILES[0], np.zeros([24, 5, 5]))
    with pytest.raises(idx.MismatchError, match=r"\(5, 5, 1\) .* \(4, 4, 1\)"):
        data.load("mnist", folder)


def test_digits_take_no_path(tmp_path):
    assert data.load("digits").train.images.shape == (1257, 8, 8, 1)
    with pytest.raises(ValueError, match="leave path out"):
        data.load("digits", tmp_path)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match=r"name='cifar11'.* digits, fashion-mnist, mnist"):
        data.load("cifar11")


@pytest.mark.needs_data("mnist")
def test_mnist(data_dir):
    found = data.load("mnist", data_dir("mnist"))
    assert [part.images.shape for part in found] == [
        (55_000, 28, 28, 1),
        (5_000, 28, 28, 1),
        (10_000, 28, 28, 1),
    ]
    train = np.concatenate([found.train.labels, found.validation.labels])
    # Published counts per class.
    assert np.bincount(train).tolist() == [
        *(5923, 6742, 5958, 6131, 5842),
        *(5421, 5918, 6265, 5851, 5949),
    ]
    assert np.bincount(found.test.labels).tolist() == [
        *(980, 1135, 1032, 1010, 982),
        *(892, 958, 1028, 974, 1009),
    ]
    pixels = np.concatenate([found.train.images, found.validation.images])
    # Mean and standard deviation that the whole field normalizes by.
    assert (round(pixels.mean() / 255, 4), round(pixels.std() / 255, 4)) == (0.1307, 0.3081)


@pytest.mark.needs_data("mnist")
def test_mnist_through_the_variable(data_dir, monkeypatch, tmp_path):
    shutil.copytree(data_dir("mnist"), tmp_path / "mnist")
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    assert len(data.load("mnist").train.labels) == 55_000


@pytest.mark.needs_data("fashion-mnist")
def test_fashion_mnist(data_dir):
    found = data.load("fashion-mnist", data_dir("fashion-mnist"))
    train = np.concatenate([found.train.labels, found.validation.labels])
    assert np.bincount(train).tolist() == [6000] * 10
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    pixels = np.concatenate([found.train.images, found.validation.images])
    assert (round(pixels.mean() / 255, 4), round(pixels.std() / 255, 4)) == (0.2860, 0.3530)


def test_cifar10_is_prepared_or_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"put dataset_info\.json and the .* of 'cifar10'"):
        data.load("cifar10")
    with pytest.raises(FileNotFoundError, match="give the folder of a prepared version"):
        data.load("cifar10", tmp_path)
