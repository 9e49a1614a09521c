"""Made-up graphs of two or three classes, whose edges mostly join nodes of one class, as files."""

import csv

import numpy as np


def made_up(nodes=120, classes=2, seed=0, same=0.9):
    """Return names, numbers that say a little of the class, classes, and edges by name."""
    draw = np.random.default_rng(seed)
    labels = np.arange(nodes) % classes
    numbers = draw.normal(size=(nodes, 3)) + labels[:, None] * 0.5
    edges = []
    for node in range(nodes):
        for _ in range(3):
            alike = np.flatnonzero((labels == labels[node]) == (draw.random() < same))
            edges.append((node, int(draw.choice(alike[alike != node]))))
    names = [f"n{node}" for node in range(nodes)]
    return names, numbers, [f"class_{label}" for label in labels], [(names[a], names[b]) for a, b in edges]


def write_tables(folder, *, names, numbers, labels, edges, split=None):
    """Write a table of nodes and one of edges, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["name", "a", "b", "c", "label", *(["split"] if split else [])]
    rows = [[name, *(f"{x:.5f}" for x in row), label] for name, row, label in zip(names, numbers, labels, strict=True)]
    if split:
        rows = [[*row, part] for row, part in zip(rows, split, strict=True)]
    for file, header, lines in (("nodes.csv", columns, rows), ("edges.csv", ["from", "to"], edges)):
        with (folder / file).open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([header, *lines])
    return folder


def write_made_up(folder, **keywords):
    """Write `made_up` as tables."""
    names, numbers, labels, edges = made_up(**keywords)
    return write_tables(folder, names=names, numbers=numbers, labels=labels, edges=edges)
