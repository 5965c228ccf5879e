"""Tasks by name: what the loop can train."""

from collections.abc import Callable

from sparsetrain.training.tasks import (
    characters,
    detection,
    images,
    parsing,
    point_clouds,
    sentences,
    tagging,
    translation,
    words,
)
from sparsetrain.training.tasks.images import Images
from sparsetrain.training.tasks.task import Loaded, Task

# Each is called with the data section's name and path, batch_size=, workers=, sizes= of synthetic examples
# (data.name="synthetic"), and the settings of the task section.
TASKS: dict[str, Callable[..., Loaded]] = {
    "characters": characters.load,
    "detection": detection.load,
    "images": images.load,
    "parsing": parsing.load,
    "point_clouds": point_clouds.load,
    "sentences": sentences.load,
    "tagging": tagging.load,
    "translation": translation.load,
    "words": words.load,
}

__all__ = ["TASKS", "Images", "Loaded", "Task"]
