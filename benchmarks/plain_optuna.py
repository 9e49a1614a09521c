"""A sweep as one would write it with Optuna and PyTorch alone; `stack.py` runs it as a peer.

python benchmarks/plain_optuna.py ROWS TRIALS OUTPUT [--threads 1] [--seed 0]

ROWS is a file of torch's with `train` and `validation`, each inputs and targets; TRIALS a JSON file of `epochs`,
`batch_size`, `hidden`, `classes` and the `values` of each trial. The study is in memory, which is Optuna's fastest,
and nothing is pruned. A trial's score is the best of its validation accuracies, one after each epoch. OUTPUT gets the
scores, the moments at which the first trial began and the last was told (seconds since 1970), and what it all ran on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Rows = dict[str, tuple[Tensor, Tensor]]


def train(rows: Rows, asked: dict[str, Any], rate: float, dropout: float) -> float:
    """The loop of PyTorch's quickstart tutorial; returns the best validation accuracy."""
    inputs, targets = rows["train"]
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=asked["batch_size"], shuffle=True)
    hidden = asked["hidden"]
    first, last = nn.Linear(inputs[0].numel(), hidden), nn.Linear(hidden, asked["classes"])
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Dropout(dropout), last).to(DEVICE)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    best = 0.0
    for _ in range(asked["epochs"]):
        model.train()
        for batch in loader:
            inputs, targets = (tensor.to(DEVICE) for tensor in batch)
            loss = loss_function(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        best = max(best, accuracy(model, *rows["validation"]))
    return best


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Of all rows at once, which is faster than by a loader."""
    model.eval()
    with torch.no_grad():
        return float((model(inputs.to(DEVICE)).argmax(1) == targets.to(DEVICE)).float().mean())


def main() -> None:
    """Run the study and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rows", "trials", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--threads", type=int, help="torch's; its own choice if left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    rows, asked = torch.load(options.rows), json.loads(options.trials.read_text(encoding="utf-8"))

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(options.seed * 1_000_003 + trial.number)
        rate = trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
        return train(rows, asked, rate, trial.suggest_float("model.dropout", 0.05, 0.5))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for values in asked["values"]:
        study.enqueue_trial(values)
    study.optimize(objective, n_trials=len(asked["values"]))
    told = {
        "scores": [trial.value for trial in study.trials],
        "values": [trial.params for trial in study.trials],
        "began": min(trial.datetime_start.timestamp() for trial in study.trials if trial.datetime_start),
        "completed": max(trial.datetime_complete.timestamp() for trial in study.trials if trial.datetime_complete),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
    }
    options.output.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
