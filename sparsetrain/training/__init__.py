"""The training loop: a config and a folder in, a resumable run out."""

from sparsetrain.training.build import ConfigError
from sparsetrain.training.loop import Result, train_and_evaluate

__all__ = ["ConfigError", "Result", "train_and_evaluate"]
