"""The contract of every network."""

import torch
from torch import nn

from hypermap import models
from hypermap.data.layout import ColumnLayout
from hypermap.tasks.losses import CrossEntropy, wrapped
from support.contracts import NetworkContract
from support.own.my_pairs import Bag

IMAGE, FEATURES = (1, 8, 8), (12,)
COLUMNS = ColumnLayout(3, 1, (4, 6))


class _OfImages(NetworkContract):
    def rows(self):
        return torch.randn(6, *IMAGE, generator=torch.Generator().manual_seed(0))


class _OfFeatures(NetworkContract):
    def rows(self):
        return torch.randn(6, *FEATURES, generator=torch.Generator().manual_seed(0))


class _OfColumns(NetworkContract):
    def rows(self):
        draw = torch.Generator().manual_seed(0)
        codes = [torch.randint(0, size + 1, (6, 1), generator=draw).float() for size in COLUMNS.cardinalities]
        return torch.cat([torch.randn(6, 3, generator=draw), torch.ones(6, 1), *codes], 1)


class TestLogistic(_OfFeatures):
    def network(self):
        return models.Logistic(FEATURES, 3)


class TestMLP(_OfFeatures):
    def network(self):
        return models.MLP(FEATURES, 3, hidden=[8, 8], batch_norm=True, dropout=0.1)


class TestCNN(_OfImages):
    def network(self):
        return models.CNN(IMAGE, 3, channels=[4, 6], dense=[8])


class TestResNet(_OfImages):
    def network(self):
        return models.ResNet(IMAGE, 3, width=4, blocks=[1, 1])


class TestRealMLP(_OfColumns):
    def network(self):
        network = models.RealMLP((COLUMNS.width,), 3, layout=COLUMNS, hidden=[8])
        nn.init.normal_(network.output.weight)  # zeros at first: each output would be the same
        return network


class TestModernNCA(_OfColumns):
    def network(self):
        network = models.ModernNCA((COLUMNS.width,), 3, layout=COLUMNS, width=8)
        network.remember(self.rows(), torch.arange(6) % 3)
        return network


class TestTabM(_OfColumns):
    def network(self):
        return wrapped(CrossEntropy(), models.TabM((COLUMNS.width,), 3, layout=COLUMNS, hidden=[8]))


class TestTabularMLP(_OfColumns):
    def network(self):
        return models.TabularMLP((COLUMNS.width,), 3, layout=COLUMNS, hidden=[8])


class TestTabularResNet(_OfColumns):
    def network(self):
        return models.TabularResNet((COLUMNS.width,), 3, layout=COLUMNS)


class TestANetworkOfOnesOwn(NetworkContract):
    def network(self):
        return Bag((6,), 2, vocabulary_size=9)

    def rows(self):
        return torch.randint(0, 9, (6, 6), generator=torch.Generator().manual_seed(0))
