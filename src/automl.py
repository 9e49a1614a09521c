"""Find a model for a table within a budget of time, and write what does the same again into params.yaml.

python src/automl.py data.path=houses.csv data.target=price budget=60s       the model is in models/
python src/automl.py … budget=5m preset=best jobs=2                          more folds and candidates; two at once
python src/automl.py data=adult budget=60s                                   a table that conf/data/ names
dvc repro                                                                    the same steps again, tested, with a report
"""

import sys

from hypermap.core.cli import run
from hypermap.core.preload import preload_torch


def main() -> None:
    """Search until the time is up."""
    preload_torch()
    from hypermap.automl.cli import within_budget

    within_budget(sys.argv[1:])


if __name__ == "__main__":
    run(main, __doc__)
