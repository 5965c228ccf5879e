"""tensorflow-datasets on a small set that the tests prepare, in a process without TensorFlow."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from sparsetrain import data
from sparsetrain.data import prepared

pytest.importorskip("tensorflow_datasets")

ROOT = Path(__file__).parents[2]

# In a process of its own: the package registers every builder class for good.
PREPARE = textwrap.dedent("""
    import sys
    import numpy as np
    import tensorflow_datasets as tfds

    class Mnist(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            feature = {{
                "{image}": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=10),
            }}
            features = tfds.features.FeaturesDict(feature)
            return tfds.core.DatasetInfo(builder=self, features=features, description="Small.")

        def _split_generators(self, manager):
            return {{"train": self._generate_examples(36), "{test}": self._generate_examples(6)}}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {{"{image}": np.full((4, 4, 1), 3 * i, np.uint8), "label": i % 10}}

    builder = Mnist(data_dir=sys.argv[1], file_format="array_record")
    builder.download_and_prepare()
    assert "tensorflow" not in sys.modules
""")


def prepare(folder, image="image", test="test"):
    done = subprocess.run(
        [sys.executable, "-c", PREPARE.format(image=image, test=test), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSETRAIN_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


def check(found):
    assert [len(part.labels) for part in found] == [33, 3, 6]
    for part in found:
        assert part.images.shape == (len(part.labels), 4, 4, 1)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(part.images[:, 3, 0, 0] // 3 % 10, part.labels)
    # array_record keeps its own order; nothing is lost or doubled.
    train = np.concatenate([found.train.images, found.validation.images])[:, 0, 0, 0]
    np.testing.assert_array_equal(np.sort(train), 3 * np.arange(36))


def test_an_explicit_path_to_a_prepared_folder(place):
    check(data.load("mnist", place / "mnist" / "3.0.1"))


def test_a_prepared_folder_in_the_variable(place, monkeypatch, tmp_path):
    (tmp_path / "mnist").symlink_to(place / "mnist" / "3.0.1")
    monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    check(data.load("mnist"))


def test_found_by_name_where_the_package_keeps_its_own(place, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(place))
    check(data.load("mnist"))


def test_the_newest_version_is_taken(place, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "3.0.10").symlink_to(place / "mnist" / "3.0.1")
    for other in ("3.0.9", "3.0.11.incomplete"):
        (tmp_path / "mnist" / other).mkdir()
        (tmp_path / "mnist" / other / "dataset_info.json").write_text("not to be read")
    check(data.load("mnist"))


def test_nothing_prepared_is_none():
    assert prepared.find("fashion_mnist") is None


def test_without_the_package(place, monkeypatch):
    real = prepared.importlib.util.find_spec
    monkeypatch.setattr(
        prepared.importlib.util,
        "find_spec",
        lambda name: None if name == "tensorflow_datasets" else real(name),
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(place))
    assert prepared.find("mnist") is None
    with pytest.raises(ImportError, match=r"pip install 'sparsetrain\[tfds\]'"):
        prepared.read_directory(place / "mnist" / "3.0.1")


def test_other_features_and_splits_are_named(tmp_path):
    folder = prepare(tmp_path / "features", image="picture") / "mnist" / "3.0.1"
    with pytest.raises(ValueError, match=r"\['label', 'picture'\]"):
        prepared.read_directory(folder)
    folder = prepare(tmp_path / "splits", test="holdout") / "mnist" / "3.0.1"
    with pytest.raises(ValueError, match=r"no split \['test'\], only \['holdout', 'train'\]"):
        prepared.read_directory(folder)


def test_another_format_is_refused(place, tmp_path):
    folder = tmp_path / "3.0.1"
    folder.mkdir()
    for file in (place / "mnist" / "3.0.1").iterdir():
        text = file.read_bytes()
        if file.suffix == ".json":
            text = text.replace(b"array_record", b"tfrecord")
        (folder / file.name.replace("array_record", "tfrecord")).write_bytes(text)
    with pytest.raises(ValueError, match="file_format='array_record'"):
        prepared.read_directory(folder)


def test_reading_imports_no_tensorflow(place):
    code = (
        "import sys; from sparsetrain import data; "
        f"data.load('mnist', {str(place / 'mnist' / '3.0.1')!r}); "
        "assert 'tensorflow_datasets' in sys.modules; assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
