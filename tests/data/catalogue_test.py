"""A small set of the catalogue, prepared in a process of its own: builder classes stay registered."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from sparsetrain.data import catalogue

PREPARE = textwrap.dedent("""
    import sys
    import numpy as np
    import tensorflow_datasets as tfds

    class Coco(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.1.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="2017", version="1.1.0")]

        def _info(self):
            objects = {
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(num_classes=80),
            }
            features = tfds.features.FeaturesDict({
                "image": tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8),
                "objects": tfds.features.Sequence(objects),
            })
            return tfds.core.DatasetInfo(builder=self, features=features, description="Small.")

        def _split_generators(self, manager):
            return {"train": self._generate_examples(3), "validation": self._generate_examples(2)}

        def _generate_examples(self, count):
            for i in range(count):
                box = tfds.features.BBox(ymin=0.25, xmin=0.0, ymax=1.0, xmax=0.5)
                objects = [{"bbox": box, "label": i}] * i
                yield i, {"image": np.full((4, 4, 3), i, np.uint8), "objects": objects}

    Coco(data_dir=sys.argv[1], config="2017", file_format="array_record").download_and_prepare()
    assert "tensorflow" not in sys.modules
""")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSETRAIN_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("by", ["path", "variable", "own"])
def test_examples_are_read_one_by_one(place, monkeypatch, tmp_path, by):
    folder = place / "coco" / "2017" / "1.1.0"
    if by == "variable":
        (tmp_path / "coco").symlink_to(folder)
        monkeypatch.setenv("SPARSETRAIN_DATA", str(tmp_path))
    elif by == "own":
        monkeypatch.setenv("TFDS_DATA_DIR", str(place))
    found = catalogue.sources("coco", folder if by == "path" else None)
    assert [(split, len(part)) for split, part in found.items()] == [
        ("train", 3),
        ("validation", 2),
    ]
    full = max((found["train"][i] for i in range(3)), key=lambda example: example["image"].max())
    assert list(full["objects"]["label"]) == [2, 2]
    np.testing.assert_array_equal(full["objects"]["bbox"], [[0.25, 0, 1, 0.5]] * 2)


def test_what_is_absent_or_something_else_is_named(place, tmp_path):
    with pytest.raises(ValueError, match="choose one of"):
        catalogue.sources("imagenet21k")
    message = (
        rf"no prepared 'wmt14_translate/de-en' in \$SPARSETRAIN_DATA .* or {tmp_path}: prepare"
    )
    with pytest.raises(FileNotFoundError, match=message):
        catalogue.sources("wmt14-en-de")
    folder = place / "coco" / "2017" / "1.1.0"
    with pytest.raises(ValueError, match=r"\['image', 'objects'\] .* image and label are due"):
        catalogue.sources("imagenet", folder)
    with pytest.raises(ValueError, match=r"no split \['test'\]"):
        catalogue.sources("mnist", folder)


def test_the_table_is_the_entries():
    rows = [line.split("|") for line in catalogue.__doc__.splitlines() if line.startswith("| ")][2:]
    table = {row[1].strip(): (row[2].strip(), row[3].strip()) for row in rows}
    expected = {name: (e.catalogue, ", ".join(e.splits)) for name, e in catalogue.ENTRIES.items()}
    assert table == expected
