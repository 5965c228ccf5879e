import gzip
import struct

import numpy as np
import pytest

from sparsetrain.data import idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def encoded(array, code=None, shape=None):
    """The format written out by struct, independently of the reader."""
    kind = array.dtype.str[1:]
    shape = array.shape if shape is None else shape
    head = bytes([0, 0, CODES[kind] if code is None else code, len(shape)])
    sizes = b"".join(struct.pack(">I", size) for size in shape)
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[kind]
    return head + sizes + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


@pytest.fixture
def file(tmp_path):
    def write(content, name="images.gz"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", sorted(CODES))
@pytest.mark.parametrize("shape", [(), (4,), (0, 3), (2, 3, 4), (1, 2, 1, 3)])
def test_reads_what_was_written(file, kind, shape, packed):
    array = (np.arange(np.prod(shape, dtype=int)) * 5 - 7).reshape(shape).astype(kind)
    content = encoded(array)
    found = idx.read(file(gzip.compress(content) if packed else content))
    assert found.dtype == np.dtype(kind)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_what_it_reads_may_be_written_to(file):
    found = idx.read(file(encoded(np.zeros(3, np.uint8))))
    found[0] = 1
    assert found.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("head", "there"),
    [
        (b"\x00\x00\x07\x01", "0x00000701"),
        (b"\x00\x01\x08\x01", "0x00010801"),
        (b"<htm", "0x3c68746d"),
        (b"PK\x03\x04", "0x504b0304"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_wrong_magic_number(file, head, there, packed):
    content = head + b"\x00\x00\x00\x01\x05"
    path = file(gzip.compress(content) if packed else content)
    with pytest.raises(idx.MagicNumberError, match=there) as error:
        idx.read(path)
    assert str(path) in str(error.value)
    assert "fetch" in str(error.value)


WHOLE = encoded(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 15, 16, len(WHOLE) - 1])
@pytest.mark.parametrize("packed", [True, False])
def test_content_that_ends_early(file, length, packed):
    content = WHOLE[:length]
    path = file(gzip.compress(content) if packed else content)
    with pytest.raises(idx.TruncatedError, match="fetch it anew") as error:
        idx.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("left", [2, 10, 20, -9, -8, -4, -1])
def test_truncated_gzip(file, left):
    path = file(gzip.compress(WHOLE)[:left])
    with pytest.raises(idx.TruncatedError, match="truncated or damaged gzip file"):
        idx.read(path)


def test_every_flipped_byte_of_the_packed_numbers_is_noticed(file):
    whole = gzip.compress(WHOLE, compresslevel=0)
    for place in range(len(whole) - len(WHOLE) - 8, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        with pytest.raises(idx.TruncatedError):
            idx.read(file(bytes(damaged)))


def test_bytes_after_the_gzip_stream(file):
    with pytest.raises(idx.TruncatedError, match="damaged"):
        idx.read(file(gzip.compress(WHOLE) + b"junk"))


@pytest.mark.parametrize("packed", [True, False])
def test_bytes_after_the_last_number(file, packed):
    content = WHOLE + b"\x00"
    path = file(gzip.compress(content) if packed else content)
    with pytest.raises(idx.TrailingBytesError, match=r"25 bytes .*\(2, 3, 4\).* announces 24"):
        idx.read(path)


def test_a_header_that_announces_more_than_64_bits_hold(file):
    path = file(encoded(np.zeros(1, np.uint8), shape=(2**32 - 1,) * 3))
    with pytest.raises(idx.TruncatedError, match=str((2**32 - 1) ** 3)):
        idx.read(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.gz"):
        idx.read(tmp_path / "absent.gz")


def test_pair(file):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    split = idx.read_pair(
        file(encoded(images), "images"), file(encoded(np.array([7, 2], np.uint8)), "labels")
    )
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(split.images, images[..., None])
    np.testing.assert_array_equal(split.labels, [7, 2])


def test_pair_with_channels(file):
    images = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    labels = file(encoded(np.zeros(2, np.uint8)), "labels")
    np.testing.assert_array_equal(
        idx.read_pair(file(encoded(images), "images"), labels).images, images
    )


def test_pair_of_unequal_counts(file):
    images = file(encoded(np.zeros([3, 2, 2], np.uint8)), "images")
    labels = file(encoded(np.zeros(2, np.uint8)), "labels")
    with pytest.raises(idx.MismatchError, match=r"images holds 3 images and .*labels 2 labels"):
        idx.read_pair(images, labels)


@pytest.mark.parametrize("kind", ["u1", "i4"])
def test_pair_exchanged_or_of_another_type(file, kind):
    images = file(encoded(np.zeros([2, 2, 2], kind)), "images")
    labels = file(encoded(np.zeros(2, np.uint8)), "labels")
    pair = (labels, images) if kind == "u1" else (images, labels)
    with pytest.raises(idx.MismatchError, match="exchanged"):
        idx.read_pair(*pair)


@pytest.mark.needs_data("mnist")
def test_the_published_mnist_labels(data_dir):
    labels = idx.read(data_dir("mnist") / "train-labels-idx1-ubyte.gz")
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
