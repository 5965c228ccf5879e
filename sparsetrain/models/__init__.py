"""Plain models that know nothing of sparsity."""

from sparsetrain.models.beam_search import beam_search
from sparsetrain.models.char_lstm import CharLSTM
from sparsetrain.models.decoder_lm import DecoderLM
from sparsetrain.models.lenet5 import LeNet5
from sparsetrain.models.mlp import MLP
from sparsetrain.models.pointnet2 import PointNet2
from sparsetrain.models.resnet import ResNet
from sparsetrain.models.resnet50 import ResNet50
from sparsetrain.models.seq2seq import Seq2Seq, translate
from sparsetrain.models.ssd import SSD300
from sparsetrain.models.tagger import Tagger
from sparsetrain.models.text_cnn import TextCNN
from sparsetrain.models.transformer import Transformer
from sparsetrain.models.transition_parser import TransitionParser
from sparsetrain.models.vgg16 import VGG16
from sparsetrain.models.word_lstm import WordLSTM

__all__ = [
    "MLP",
    "SSD300",
    "VGG16",
    "CharLSTM",
    "DecoderLM",
    "LeNet5",
    "PointNet2",
    "ResNet",
    "ResNet50",
    "Seq2Seq",
    "Tagger",
    "TextCNN",
    "Transformer",
    "TransitionParser",
    "WordLSTM",
    "beam_search",
    "translate",
]
