"""The contract of every kind of reader."""

import numpy as np

from support.contracts import ReaderContract
from support.own_graphs import write_made_up
from support.own_images import write_digits
from support.own_series import rows_of, write_series
from support.own_texts import write_table


class TestEmbeddedImages(ReaderContract):
    target = "hypermap.datasets.images.digits"

    def settings(self, folder):
        return {"test": 0.2, "rows": 200}


class TestEmbeddedNumbers(ReaderContract):
    target = "hypermap.datasets.images.diabetes"

    def settings(self, folder):
        return {"test": 0.2}


class TestTables(ReaderContract):
    target = "hypermap.datasets.tables.dataset.table"

    def settings(self, folder):
        folder.mkdir()
        draw = np.random.default_rng(0)
        lines = [f"{draw.normal():.4f},{'red' if draw.random() < 0.5 else 'blue'},{k % 2}" for k in range(60)]
        (folder / "colours.csv").write_text("\n".join(["x,colour,target", *lines]))
        return {"path": str(folder / "colours.csv"), "target": "target", "test": 0.2}


class TestTablesWithTexts(ReaderContract):
    target = "hypermap.datasets.tables.dataset.table"

    def settings(self, folder):
        path = write_table(folder / "adverts.csv", 60, header=("advert", "target"))
        return {"path": str(path), "target": "target", "text": "advert", "test": 0.2}


class TestAFolderOfImages(ReaderContract):
    target = "hypermap.datasets.image_folder.images"

    def settings(self, folder):
        write_digits(folder, range(80))
        return {"path": str(folder), "size": 6, "test": 0.2}


class TestTexts(ReaderContract):
    target = "hypermap.datasets.texts.texts"

    def settings(self, folder):
        path = write_table(folder / "texts.csv", 60)
        return {"path": str(path), "target": "class", "test": 0.2}


class TestSeries(ReaderContract):
    target = "hypermap.datasets.series.series"

    def settings(self, folder):
        path = write_series(folder / "series.csv", rows_of(300))
        return {"path": str(path), "time": "when", "target": ["load"], "test": None}

    def wanted(self, folder):
        return super().wanted(folder) | {"validation": None}


class TestGraphs(ReaderContract):
    target = "hypermap.datasets.graphs.graph"

    def settings(self, folder):
        return {"path": str(write_made_up(folder, nodes=60)), "test": 0.2}


class TestGraphsOfAFewLabels(ReaderContract):
    target = "hypermap.datasets.graphs.graph"

    def settings(self, folder):
        path = write_made_up(folder, nodes=60)
        return {"path": str(path), "labels_per_class": 5, "validation_nodes": 20, "test_nodes": None}


class TestAReaderOfOnesOwn(ReaderContract):
    target = "support.own.my_pairs.read"

    def settings(self, folder):
        folder.mkdir()
        draw = np.random.default_rng(0)
        rows = np.hstack([draw.integers(0, 30, (60, 6)), draw.normal(size=(60, 2))])
        np.savetxt(folder / "pairs.csv", rows, delimiter=",")
        return {"path": str(folder / "pairs.csv"), "test": 0.2}
