"""Networks, each built as ``Model(input_shape, outputs, **keywords)``.

They take float32 (batch, *input_shape), or ids of tokens or nodes, and return logits or values (batch, outputs). One
whose attribute `of_members` is true returns those of several members, (batch, members, outputs).
"""

from hypermap.models.audio import AudioCNN, AudioCRNN, AudioWave
from hypermap.models.cnn import CNN
from hypermap.models.graph import APPNP, GAT, GCN, GraphSAGE, NodeMLP
from hypermap.models.mlp import MLP, Logistic
from hypermap.models.modernnca import ModernNCA
from hypermap.models.ratings import RankingFactors, RatingFactors, RatingMLP, TwoTowers
from hypermap.models.realmlp import RealMLP
from hypermap.models.resnet import ResNet
from hypermap.models.series import SeriesLinear, SeriesRNN, SeriesTCN, SeriesTransformer, SparseLinear
from hypermap.models.tabm import TabM
from hypermap.models.tabular import TabularMLP, TabularResNet
from hypermap.models.text import TextBag, TextCNN, TextRNN, TextTransformer

__all__ = [
    "APPNP",
    "CNN",
    "GAT",
    "GCN",
    "MLP",
    "AudioCNN",
    "AudioCRNN",
    "AudioWave",
    "GraphSAGE",
    "Logistic",
    "ModernNCA",
    "NodeMLP",
    "RankingFactors",
    "RatingFactors",
    "RatingMLP",
    "RealMLP",
    "ResNet",
    "SeriesLinear",
    "SeriesRNN",
    "SeriesTCN",
    "SeriesTransformer",
    "SparseLinear",
    "TabM",
    "TabularMLP",
    "TabularResNet",
    "TextBag",
    "TextCNN",
    "TextRNN",
    "TextTransformer",
    "TwoTowers",
]
