"""Networks, each built as ``Model(input_shape, outputs, **keywords)``.

They take float32 (batch, *input_shape), or ids of tokens or nodes, and return logits or values (batch, outputs). One
whose attribute `of_members` is true returns those of several members, (batch, members, outputs).

A network's module is imported when the network is named, since models of scikit-learn need no torch.
"""

from importlib import import_module
from typing import Any

MODULES = {
    "audio": ("AudioCNN", "AudioCRNN", "AudioWave"),
    "cnn": ("CNN",),
    "graph": ("APPNP", "GAT", "GCN", "GraphSAGE", "NodeMLP"),
    "mlp": ("MLP", "Logistic"),
    "modernnca": ("ModernNCA",),
    "ratings": ("RankingFactors", "RatingFactors", "RatingMLP", "TwoTowers"),
    "realmlp": ("RealMLP",),
    "resnet": ("ResNet",),
    "series": ("SeriesLinear", "SeriesRNN", "SeriesTCN", "SeriesTransformer", "SparseLinear"),
    "tabm": ("TabM",),
    "tabular": ("TabularMLP", "TabularResNet"),
    "text": ("TextBag", "TextCNN", "TextRNN", "TextTransformer"),
}
NETWORKS = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in NETWORKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{NETWORKS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *NETWORKS})  # for the hint at a name that is close to a wrong one
