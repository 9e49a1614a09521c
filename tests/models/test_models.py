import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.layout import ColumnLayout
from hypermap.models import CNN, MLP, Logistic, RealMLP, ResNet, TabM, TabularMLP, TabularResNet
from hypermap.models.layers import Dropout, _sixteen_bits, activation, initialize
from hypermap.models.realmlp import RatedParameter
from hypermap.models.tabm import PeriodicLinear
from hypermap.models.tabular import CategoryEmbedding, PeriodicEmbedding


def seeded(model, *arguments, **keywords):
    torch.manual_seed(0)
    return model(*arguments, **keywords)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


CONTRACT = [
    (Logistic, (30,), {}),
    (Logistic, (1, 8, 8), {}),
    (MLP, (30,), {}),
    (MLP, (1, 28, 28), {"hidden": [32, 16], "dropout": 0.3, "batch_norm": True, "activation": "tanh"}),
    (MLP, (30,), {"hidden": []}),
    (CNN, (1, 28, 28), {}),
    (CNN, (3, 32, 32), {"dropout": 0.5, "padding": "same", "dense": [], "initialization": "he_normal"}),
    (CNN, (1, 8, 8), {"channels": [4], "kernel_size": 5, "activation": "gelu"}),
    (ResNet, (1, 28, 28), {}),
    (ResNet, (3, 32, 32), {"width": 4, "blocks": [1, 1], "dropout": 0.1}),
    (ResNet, (1, 8, 8), {"blocks": [1, 1, 1]}),
    (TabularMLP, (30,), {}),
    (TabularMLP, (30,), {"layout": ColumnLayout(29, 1), "hidden": [], "members": 1, "number_width": 1}),
    (TabularResNet, (30,), {"width": 16, "blocks": 1}),
]


@pytest.mark.parametrize(("model", "shape", "keywords"), CONTRACT)
class TestContract:
    def test_outputs(self, model, shape, keywords):
        outputs = seeded(model, shape, 10, **keywords)(torch.randn(4, *shape))
        assert outputs.shape == (4, 10)
        assert outputs.dtype == torch.float32
        assert outputs.isfinite().all()

    def test_the_seed_decides_the_weights(self, model, shape, keywords):
        first, second = (seeded(model, shape, 3, **keywords).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_every_parameter_learns(self, model, shape, keywords):
        network = seeded(model, shape, 3, **keywords)
        F.cross_entropy(network(torch.randn(8, *shape)), torch.arange(8) % 3).backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())

    def test_rows_do_not_touch_in_evaluation(self, model, shape, keywords):
        network = seeded(model, shape, 3, **keywords).eval()
        rows = torch.randn(4, *shape)
        torch.testing.assert_close(network(rows)[1:2], network(rows[1:2]), atol=1e-5, rtol=1e-4)

    def test_training_fits_a_batch(self, model, shape, keywords):
        settings = {name: value for name, value in keywords.items() if name != "dropout"}
        network = seeded(model, shape, 2, **settings)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        inputs, targets = torch.randn(8, *shape), torch.arange(8) % 2
        for _ in range(25):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs), targets)
            loss.backward()
            optimizer.step()
        assert loss < 0.5  # a guess costs 0.69


# Counted by hand, layer by layer.
@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Logistic((1, 28, 28), 10), 785 * 10),
        (MLP((1, 28, 28), 10), 785 * 128 + 129 * 10),
        (CNN((3, 32, 32), 10), 28 * 32 + 289 * 64 + 577 * 64 + (64 * 4 * 4 + 1) * 64 + 65 * 10),  # 122 570
        (ResNet((3, 32, 32), 10, blocks=[3, 3, 3]), 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)),
    ],
)
def test_parameters_are_counted_by_hand(network, expected):
    """The CNN is Keras's 122 570; the ResNet-20 is the paper's 0.27 million (269 722) and two projections."""
    assert parameters(network) == expected


def variance(name: str, fan_in: int, fan_out: int) -> float:
    return 2 / fan_in if name.startswith("he") else 2 / (fan_in + fan_out)


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"])
@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [(nn.Linear(300, 200), 300, 200), (nn.Conv2d(20, 60, 5), 20 * 25, 60 * 25)],
)
def test_initialization_has_the_distribution_of_its_name(name, layer, fan_in, fan_out):
    torch.manual_seed(0)
    assert initialize(layer, name) is layer
    assert not layer.bias.any()
    spread = math.sqrt(variance(name, fan_in, fan_out))
    limit = math.sqrt(3) * spread
    law = stats.uniform(-limit, 2 * limit) if name.endswith("uniform") else stats.norm(0, spread)
    weights = layer.weight.detach().flatten().double().numpy()
    assert stats.kstest(weights, law.cdf).pvalue > 1e-3


def test_mlp_initializes_its_hidden_layers_as_asked_and_its_output_glorot_uniform():
    network = seeded(MLP, (400,), 300, hidden=[500], initialization="he_normal")
    assert network.hidden[0].weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert network.output.weight.abs().max().item() <= math.sqrt(6 / 800)


def test_cnn_initializes_the_first_convolution_and_the_dense_layers_as_asked():
    network = seeded(CNN, (3, 32, 32), 10, channels=[64, 64, 64], initialization="he_normal")
    first, second, third = (layer for layer in network.convolutions if isinstance(layer, nn.Conv2d))
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.06)
    assert network.dense[0].weight.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.02)
    for layer in (second, third):
        assert layer.weight.abs().max().item() <= math.sqrt(6 / (2 * 576))
    assert network.output.weight.abs().max().item() <= math.sqrt(6 / 74)


def test_cnn_is_the_one_of_the_articles():
    kinds = [type(layer).__name__ for layer in CNN((3, 32, 32), 10).convolutions]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU"]


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("tanh", lambda x: 1 - 2 / ((2 * x).exp() + 1)),
        ("sigmoid", lambda x: 1 / (1 + (-x).exp())),
        ("gelu", lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2),
        ("silu", lambda x: x / (1 + (-x).exp())),
        ("leaky_relu", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("selu", lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * x.expm1())),
        ("mish", lambda x: x * x.exp().log1p().tanh()),
    ],
)
def test_activations_are_their_formulas(name, formula):
    values = torch.linspace(-3, 3, 101)
    torch.testing.assert_close(activation(name)(values), formula(values))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"activation": "rellu"}, "activation is 'rellu'; allowed: relu, tanh"),
        ({"initialization": "he"}, "initialization is 'he'; allowed: glorot_uniform"),
    ],
)
@pytest.mark.parametrize("model", [MLP, CNN])
def test_unknown_names_are_refused(model, keywords, message):
    with pytest.raises(ValueError, match=message):
        model((1, 28, 28), 10, **keywords)


@pytest.mark.parametrize(("side", "meant"), [(17, "same"), (18, "valid")])
def test_padding_is_by_itself_where_the_images_are_too_small_to_do_without(side, meant):
    torch.manual_seed(0)
    chosen = CNN((1, side, side), 10, padding="auto")
    torch.manual_seed(0)
    named = CNN((1, side, side), 10, padding=meant)
    images = torch.rand(2, 1, side, side)
    assert torch.equal(chosen(images), named(images))


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding is 'full'; allowed: auto, valid, same"):
        CNN((1, 28, 28), 10, padding="full")


@pytest.mark.parametrize(
    ("model", "keywords", "message"),
    [
        (MLP, {"hidden": [16, 0]}, "hidden"),
        (MLP, {"dropout": 1.0}, "dropout is 1.0"),
        (CNN, {"channels": []}, "channels is empty"),
        (CNN, {"channels": [8, 0]}, "channels"),
        (CNN, {"kernel_size": 0}, "kernel_size"),
        (CNN, {"dense": [-1]}, "dense"),
        (ResNet, {"blocks": []}, "blocks is empty"),
        (ResNet, {"blocks": [1, 0]}, "blocks"),
        (ResNet, {"width": 0}, "width"),
    ],
)
def test_impossible_sizes_are_refused(model, keywords, message):
    with pytest.raises(UserError, match=message):
        model((1, 28, 28), 10, **keywords)


@pytest.mark.parametrize("model", [CNN, ResNet])
def test_tables_are_refused_by_networks_for_images(model):
    with pytest.raises(UserError, match=r"shape \(30,\): use model=mlp or model=logistic"):
        model((30,), 2)


@pytest.mark.parametrize("keywords", [{}, {"kernel_size": 5}, {"channels": [4, 4]}, {"padding": "same"}])
def test_the_least_side_of_an_image_is_told_and_true(keywords):
    with pytest.raises(UserError, match="needs images of at least") as refused:
        CNN((1, 1, 1), 2, **{"channels": [4, 4, 4], **keywords})
    least = int(str(refused.value).split("at least ")[1].split("x")[0])
    assert CNN((1, least, least), 2, **keywords)(torch.zeros(1, 1, least, least)).shape == (1, 2)
    with pytest.raises(UserError):
        CNN((1, least - 1, least + 9), 2, **keywords)


class TestDropout:
    def test_mean_scale_and_share_are_those_of_torch(self):
        torch.manual_seed(0)
        ones, rate = torch.ones(1_000_003), 0.2
        ours, theirs = Dropout(rate)(ones), nn.Dropout(rate)(ones)
        error = 5 * math.sqrt(rate * (1 - rate) / len(ones))
        assert (ours == 0).float().mean().item() == pytest.approx(rate, abs=error)
        assert (theirs == 0).float().mean().item() == pytest.approx(rate, abs=error)
        torch.testing.assert_close(ours.unique(), theirs.unique(), rtol=1e-4, atol=0)
        assert ours.mean().item() == pytest.approx(1, abs=error / (1 - rate))

    def test_scale_undoes_the_quantised_rate_exactly(self):
        kept = round(0.7 * 65536)
        assert Dropout(0.3)(torch.ones(64, dtype=torch.float64)).max().item() == 65536 / kept

    def test_every_sixteen_bit_number_is_as_probable(self):
        torch.manual_seed(0)
        numbers = _sixteen_bits(torch.Size([1_000_000])).long() + 32768
        for digits in (numbers >> 8, numbers & 255):
            assert stats.chisquare(digits.bincount(minlength=256).numpy()).pvalue > 1e-3

    def test_the_four_lanes_of_a_draw_are_independent(self):
        torch.manual_seed(0)
        lanes = (Dropout(0.5)(torch.ones(400_000)) > 0).view(-1, 4)
        patterns = (lanes * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
        assert stats.chisquare(patterns.numpy()).pvalue > 1e-3
        neighbours = torch.stack([lanes[:-1].flatten(), lanes[1:].flatten()]).float()
        assert abs(neighbours.corrcoef()[0, 1]) < 5 / math.sqrt(400_000)

    @pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 4, 5), (0, 4)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_any_shape_and_dtype(self, shape, dtype):
        outputs = Dropout(0.5)(torch.ones(shape, dtype=dtype))
        assert outputs.shape == shape
        assert outputs.dtype == dtype

    def test_gradients_pass_where_elements_were_kept(self):
        inputs = torch.ones(1000, requires_grad=True)
        outputs = Dropout(0.4)(inputs)
        outputs.sum().backward()
        assert torch.equal(inputs.grad, outputs.detach())

    def test_the_global_seed_decides(self):
        masks = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            masks.append(Dropout(0.5)(torch.ones(100)))
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0], masks[2])

    def test_evaluation_and_rate_zero_are_the_identity(self):
        inputs = torch.randn(5)
        assert Dropout(0.5).eval()(inputs) is inputs
        assert Dropout(0.0)(inputs) is inputs

    def test_a_rate_next_to_one_keeps_something(self):
        torch.manual_seed(0)
        assert Dropout(1 - 1e-9)(torch.ones(10)).isfinite().all()

    @pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
    def test_rates_out_of_range_are_refused(self, rate):
        with pytest.raises(UserError, match="allowed: from 0 to less than 1"):
            Dropout(rate)


LAYOUT = ColumnLayout(2, 1, (3, 5))
TABULAR = [TabularMLP, TabularResNet]


def table_rows(count: int) -> torch.Tensor:
    """Rows of `LAYOUT`, every code of it among ten of them."""
    generator = torch.Generator().manual_seed(0)
    codes = [(torch.arange(count) % (size + 1)).float()[:, None] for size in LAYOUT.cardinalities]
    plain = torch.randn(count, LAYOUT.plain, generator=generator)
    return torch.cat([plain, *codes], 1)


@pytest.mark.parametrize("model", TABULAR)
class TestTabular:
    def test_every_column_counts_and_every_parameter_learns(self, model):
        network, rows = seeded(model, (5,), 3, LAYOUT), table_rows(24).requires_grad_()
        F.cross_entropy(network(rows), torch.arange(24) % 3).backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
        assert (rows.grad[:, : LAYOUT.plain].abs().sum(0) > 0).all()
        network.eval()
        for column in range(LAYOUT.plain, LAYOUT.width):
            other = rows.detach().clone()
            other[:, column] = 1 + other[:, column] % 3  # another of the codes that both columns have
            assert not torch.equal(network(rows), network(other))

    def test_a_category_that_training_lacks_stays_zeros(self, model):
        network, rows = seeded(model, (5,), 2, LAYOUT), table_rows(24)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(rows), torch.arange(24) % 2).backward()
            optimizer.step()
        embedded = network.embedding.categories(torch.tensor([[0, 0], [1, 5]]))
        assert not embedded[0].any()
        assert embedded[1].all()

    def test_images_are_refused(self, model):
        with pytest.raises(UserError, match=r"needs a table's rows .* shape \(1, 8, 8\): use model=cnn"):
            model((1, 8, 8), 2)

    @pytest.mark.parametrize("keywords", [{"category_width": 0}, {"number_width": 0}, {"frequencies": 0}])
    def test_impossible_widths_are_refused(self, model, keywords):
        with pytest.raises(UserError, match=f"{next(iter(keywords))} has 0"):
            model((5,), 2, LAYOUT, **keywords)

    def test_a_table_of_categories_alone(self, model):
        rows = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
        assert seeded(model, (2,), 4, ColumnLayout(0, 0, (2, 3)))(rows).shape == (2, 4)


def test_periodic_embedding_is_that_of_the_paper():
    layer = seeded(PeriodicEmbedding, 3, 4, 5, 0.1)
    numbers = torch.randn(7, 3)
    embedded = layer(numbers).view(7, 3, 4)
    for row, column in ((0, 0), (6, 2), (3, 1)):
        x = numbers[row, column]
        waves = torch.cos(2 * math.pi * (layer.frequency[column, 0] * x + layer.phase[column, 0]))
        expected = torch.cat([x[None], waves @ layer.weight[column] + layer.bias[column, 0]])
        torch.testing.assert_close(embedded[row, column], expected)


def test_plr_lite_is_that_of_the_paper_at_several_scales_beside_the_number():
    layer = seeded(PeriodicLinear, 3, 4, 5, 20.0)
    numbers = torch.randn(7, 3)
    embedded = layer(numbers).view(7, 3, 4)
    for row, column in ((0, 0), (6, 2), (3, 1)):
        angles = 2 * math.pi * layer.frequency[column] * numbers[row, column]
        waves = torch.cat([angles.cos(), angles.sin()])
        expected = torch.cat([numbers[row, column, None], (layer.linear.weight @ waves + layer.linear.bias).relu()])
        torch.testing.assert_close(embedded[row, column], expected)
    many = seeded(PeriodicLinear, 20_000, 4, 3, 20.0).frequency
    torch.testing.assert_close(many.std(0), 0.9866 * torch.tensor([0.2, 2.0, 20.0]), rtol=0.03, atol=0)  # cut at three


def test_realmlp_is_that_of_the_paper():
    network = seeded(RealMLP, (5,), 3, LAYOUT, hidden=[8], dropout=0.0, activation="selu")
    torch.nn.init.normal_(network.output.weight)
    features = network.embedding(table_rows(9)) * 6 * network.scale.stored
    inner = features @ network.hidden[0].weight / math.sqrt(features.shape[1]) + 0.1 * network.hidden[0].bias.stored
    bend = 0.1 * network.activations[0].bend.stored
    inner = (1 - bend) * inner + bend * F.selu(inner)
    expected = inner @ network.output.weight / math.sqrt(8) + 0.1 * network.output.bias.stored
    torch.testing.assert_close(network(table_rows(9)), expected, rtol=1e-4, atol=1e-4)
    assert network.scale().unique().tolist() == [1.0]


def test_a_rated_parameter_learns_at_its_own_rate_with_adam():
    ours, theirs = RatedParameter(torch.tensor([0.5, 2.0]), 6.0), torch.nn.Parameter(torch.tensor([0.5, 2.0]))
    own = torch.optim.AdamW(ours.parameters(), lr=0.01, eps=1e-12, weight_decay=0.0)
    other = torch.optim.AdamW([theirs], lr=0.06, eps=1e-12, weight_decay=0.0)
    for _ in range(5):
        for optimizer, value in ((own, ours()), (other, theirs)):
            optimizer.zero_grad()
            (value.square() * torch.tensor([1.0, -3.0])).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours(), theirs)


def test_the_rate_of_an_embedding_only_changes_how_it_is_stored():
    numbers, plain, rated = torch.randn(7, 3), *(seeded(PeriodicEmbedding, 3, 4, 5, 0.1, rate) for rate in (1.0, 0.1))
    rated.load_state_dict({name: 10 * tensor for name, tensor in plain.state_dict().items()})
    torch.testing.assert_close(rated(numbers), plain(numbers))


@pytest.mark.parametrize("category_width", [None, 4])
def test_each_member_of_tabm_is_an_mlp_on_its_own_scale_of_the_columns(category_width):
    network = seeded(TabM, (5,), 3, LAYOUT, hidden=[8, 6], members=4, dropout=0.0, category_width=category_width)
    rows = table_rows(9)
    embedded = network.embedding(rows)
    categories = 8 if category_width is None else 2 * category_width
    assert embedded.shape == (9, 2 * 16 + 1 + categories)
    outputs = network(rows)
    assert outputs.shape == (9, 4, 3)
    for member in range(4):
        features = embedded * network.scale.factors[member]
        for layer in network.hidden:
            features = layer(features).relu()
        expected = features @ network.output.weight[member] + network.output.bias[member]
        torch.testing.assert_close(outputs[:, member], expected)
    first = network.scale.factors[:, :16]
    assert torch.equal(first, first[:, :1].expand_as(first))  # one factor for all of a column


def test_each_column_has_categories_of_its_own():
    layer = seeded(CategoryEmbedding, [2, 3], 4)
    assert layer.table.shape == (1 + 2 + 3, 4)
    expected = torch.cat([layer.table[2], layer.table[3]])
    assert torch.equal(layer(torch.tensor([[2, 1]]))[0], expected)


def test_one_member_without_embeddings_is_a_perceptron():
    network = seeded(TabularMLP, (6,), 3, hidden=[8], members=1, number_width=1, dropout=0.0, activation="relu")
    first, last = network.hidden[0], network.output
    rows = torch.randn(5, 6)
    hidden = torch.relu(rows @ (first.shared.weight * first.before).T)  # biases start at 0, later factors at 1
    expected = hidden @ (last.shared.weight * last.before).T
    torch.testing.assert_close(network(rows), expected)
    torch.testing.assert_close(network.eval()(rows), expected)


@pytest.mark.parametrize("rows", [2, 8, 9])
def test_in_training_a_row_is_one_members_and_else_the_mean_of_all(rows):
    network = seeded(TabularMLP, (6,), 3, members=4, dropout=0.0)
    inputs = torch.randn(rows, 6)
    repeated = inputs.repeat_interleave(4, 0)  # row k of four is member k's
    torch.testing.assert_close(network.train()(repeated).view(rows, 4, 3).mean(1), network.eval()(inputs))
    alone = network.train()(inputs)
    assert alone.shape == (rows, 3)
    last = rows - 1
    torch.testing.assert_close(alone[last], network(inputs[last].repeat(4, 1))[last % 4])


def test_members_share_all_but_vectors():
    network = TabularMLP((6,), 3, hidden=[8], members=4, number_width=1)
    assert parameters(network) == (6 * 8 + 8 * 3) + 4 * (6 + 8 + 8) + 4 * (8 + 3 + 3)


def test_tabular_resnet_adds_each_block_to_its_input():
    network = seeded(TabularResNet, (6,), 2, width=8, blocks=2).eval()
    stem = network.stem(network.embedding(rows := torch.randn(4, 6)))
    with torch.no_grad():
        for block in network.blocks:
            block.residual[-1].weight.zero_()
            block.residual[-1].bias.zero_()
    torch.testing.assert_close(network(rows), network.output(torch.relu(network.norm(stem))))
