"""Plain models that know nothing of sparsity."""

from sparsetrain.models.char_lstm import CharLSTM
from sparsetrain.models.lenet5 import LeNet5
from sparsetrain.models.mlp import MLP
from sparsetrain.models.resnet import ResNet
from sparsetrain.models.resnet50 import ResNet50
from sparsetrain.models.transformer import Transformer

__all__ = ["MLP", "CharLSTM", "LeNet5", "ResNet", "ResNet50", "Transformer"]
