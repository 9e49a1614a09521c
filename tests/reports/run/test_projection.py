"""Maps of test rows: that they hold what they say they hold, and are the same each time."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier

from hypermap.reports.run import projection


@pytest.fixture(scope="module")
def digits():
    features, targets = load_digits(return_X_y=True)
    return features[:300] / features.std(), targets[:300], projection.project(features[:300] / features.std(), "tsne")


def test_tsne_keeps_neighbours_together_and_comes_out_the_same_each_time(digits):
    features, targets, placed = digits
    neighbours = KNeighborsClassifier(5)
    on_map, in_full = (
        neighbours.fit(points[::2], targets[::2]).score(points[1::2], targets[1::2])
        for points in (placed.places, features)
    )
    assert on_map > in_full - 0.1
    assert on_map > 0.8
    again = projection.project(features, "tsne")
    assert again.places.tobytes() == placed.places.tobytes()


def test_pca_is_the_singular_value_decomposition():
    features = load_iris().data
    placed = projection.project(features, "pca")
    left, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(placed.places), np.abs(left[:, :2] * sizes[:2]), atol=1e-9)
    np.testing.assert_allclose(placed.explained, sizes[:2] ** 2 / np.sum(sizes**2))


def test_of_many_rows_a_thousand_are_taken_from_first_to_last():
    placed = projection.project(np.random.default_rng(0).normal(size=(5000, 3)), "pca")
    assert len(placed.chosen) == len(placed.places) == projection.POINTS
    assert (placed.chosen[0], placed.chosen[-1]) == (0, 4999)
    assert np.all(np.diff(placed.chosen) > 0)
    assert "1,000 of 5,000 test rows" in projection.caption(placed, 5000, classifies=False)


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.filterwarnings("error")
def test_few_rows_few_columns_and_columns_that_say_nothing(method):
    generator = np.random.default_rng(0)
    one = np.column_stack([generator.normal(size=12), np.ones(12)])
    for features in (one, generator.normal(size=(projection.LEAST, 3)), generator.normal(size=(6, 90))):
        placed = projection.project(features, method)
        assert np.isfinite(placed.places).all()
        assert placed.places.shape == (len(features), 2)
    assert projection.project(np.ones((40, 3)), method) is None
    assert projection.project(generator.normal(size=(projection.LEAST - 1, 3)), method) is None
    assert projection.project(generator.normal(size=(40, 3)), "none") is None


def colours(picture):
    return {colour for _, colour in Image.open(io.BytesIO(picture)).convert("RGB").getcolors(100_000)}


def test_classes_have_their_colours_and_mistakes_their_rings(digits):
    _, targets, placed = digits
    kinds = targets % 3
    right = projection.classes_map(placed, kinds, kinds, ("a", "b", "c"))
    wrong = projection.classes_map(placed, kinds, (kinds + 1) % 3, ("a", "b", "c"))
    assert projection.classes_map(placed, kinds, kinds, ("a", "b", "c")) == right
    assert len(colours(right)) > 3
    dark = [sum(np.asarray(Image.open(io.BytesIO(p)).convert("L")).ravel() < 60) for p in (right, wrong)]
    assert dark[1] > 2 * dark[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 9, 15, 60])
def test_any_number_of_classes(digits, classes):
    _, targets, placed = digits
    kinds = np.arange(len(targets)) % classes
    picture = projection.classes_map(placed, kinds, kinds[::-1], [f"class {k}" for k in range(classes)])
    assert len(picture) < 100_000


def test_values_have_a_scale(digits):
    _, targets, placed = digits
    values = targets.astype(float)
    picture = projection.values_map(placed, values, values[::-1])
    assert len(colours(picture)) > 100
    assert projection.values_map(placed, values, values[::-1]) == picture
