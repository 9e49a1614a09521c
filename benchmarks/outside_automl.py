"""AutoGluon or FLAML on one table, in an environment of theirs: called by automl.py."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def main() -> None:
    """Fit within the time, and write predictions for the test rows and the model."""
    name, place, kind, seconds, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
    train, test = (pd.read_parquet(place / f"{split}.parquet") for split in ("train", "test"))
    for frame in (train, test):
        for column in frame.columns.difference(["target"]):
            if frame[column].dtype == object:
                frame[column] = frame[column].astype("category")
    found = (autogluon if name == "autogluon" else flaml)(place / "model", train, test, kind, seconds, seed)
    np.save(place / "predictions.npy", np.asarray(found, np.float64))


def autogluon(model: Path, train: pd.DataFrame, test: pd.DataFrame, kind: str, seconds: float, seed: int) -> np.ndarray:
    """AutoGluon's medium quality, judged by log loss or RMSE."""
    from autogluon.tabular import TabularPredictor

    metric = "root_mean_squared_error" if kind == "regression" else "log_loss"
    predictor = TabularPredictor("target", problem_type=kind, eval_metric=metric, path=str(model), verbosity=0)
    predictor.fit(train, time_limit=seconds, presets="medium_quality", num_cpus=1, num_gpus=0)
    if kind == "regression":
        return predictor.predict(test).to_numpy()
    return predictor.predict_proba(test).to_numpy()


def flaml(model: Path, train: pd.DataFrame, test: pd.DataFrame, kind: str, seconds: float, seed: int) -> np.ndarray:
    """FLAML's search over its estimators, judged by log loss or RMSE."""
    from flaml import AutoML

    found = AutoML()
    task, metric = ("regression", "rmse") if kind == "regression" else ("classification", "log_loss")
    found.fit(
        train.drop(columns="target"), train["target"], task=task, metric=metric, time_budget=seconds, seed=seed,
        n_jobs=1, verbose=0,
    )  # fmt: skip
    rows = test.drop(columns="target")
    model.mkdir(exist_ok=True)
    pd.to_pickle(found.model, model / "model.pkl")
    return found.predict(rows) if kind == "regression" else found.predict_proba(rows)


if __name__ == "__main__":
    main()
