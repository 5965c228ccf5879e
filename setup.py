"""Metadata, dependency ranges and extras; everything else about tools is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "sparsetrain" / "__init__.py").read_text(), re.MULTILINE
)[1]

EXTRAS = {
    # The training loop, its command line and the demo. Nothing here may bring TensorFlow along.
    "train": [
        "flax>=0.12.8",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "orbax-checkpoint>=0.11.30",
        "pillow>=10.4",
        "rich>=13.9",
        "scikit-learn>=1.5",
    ],
    # Reading prepared data sets without TensorFlow. The last two are used, but not asked for, by
    # tensorflow-datasets 4.9.10; pillow decodes `Image` features.
    "tfds": [
        "tensorflow-datasets>=4.9.9",
        "array_record>=0.8",
        "importlib_resources",
        "pillow",
    ],
    # `tensorboard.summary.Writer`; clu and flax.metrics would import TensorFlow.
    "tensorboard": ["tensorboard>=2.20"],
    "notebooks": ["ipykernel>=6.29", "matplotlib>=3.9", "scikit-learn>=1.5"],
    "fast-wire": ["numba>=0.61"],
    # `make docs`.
    "docs": ["mkdocs>=1.6.1,<2", "mkdocstrings[python]>=1.0"],
    # `experiments/gap_translation`: pieces of words, and the score of translations.
    "translation": ["sacrebleu>=2.4", "sentencepiece>=0.2.1"],
    # `analysis.average_precision`: COCO's own count, as wheels.
    "detection": ["pycocotools>=2.0.8"],
    # Not part of `all`: it pins rich and protobuf.
    "federated": ["flwr[simulation]>=1.41"],
    "test": [
        "equinox>=0.13",
        "hypothesis>=6.100",
        "ipykernel>=6.29",
        "mypy>=1.15",
        "nbformat>=5.10",
        "nbmake>=1.5",
        "nbstripout>=0.7",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "setuptools>=77",
    ],
}
EXTRAS["all"] = sorted({item for name in EXTRAS if name != "federated" for item in EXTRAS[name]})

setup(
    name="sparsetrain",
    version=VERSION,
    description="Sparse training for JAX: keep the largest entries, remember the rest",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["sparsetrain", "sparsetrain.*"]),
    package_data={"sparsetrain": ["py.typed"]},
    zip_safe=False,
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "chex>=0.1.90",
        "jax>=0.10.2",
        "jaxlib>=0.10.2",
        "numpy>=2.0",
        "optax>=0.2.8",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
