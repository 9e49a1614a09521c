"""Scikit-learn's digits as files."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder, rows):
    """Write images into a folder for each class."""
    data = load_digits()
    for row in rows:
        path = folder / str(data.target[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[row] * 15.9375).astype(np.uint8)).save(path)
