"""Write an experiment into params.yaml: python src/order.py NAME [key=value …], or make order EXPERIMENT=NAME WITH=…"""

import sys

from hypermap.config.compose import compose, params_for
from hypermap.config.groups import groups, read_params
from hypermap.config.params_file import params_of, rewrite
from hypermap.core.cli import run
from hypermap.core.errors import UserError
from hypermap.core.files import write_text
from hypermap.core.paths import PARAMS


def main() -> None:
    """Replace the options in params.yaml by the experiment's, with these overrides; keep the comments.

    If an option differs from the experiment's, the values are spelled out and the experiment is not named.
    """
    names = ", ".join(groups()["experiment"])
    if len(sys.argv) < 2 or not sys.argv[1]:
        raise UserError(f"name an experiment: make order EXPERIMENT=NAME. There are: {names}.")
    experiment, *overrides = sys.argv[1:]
    read_params()  # raises if the present one is invalid
    params = params_of(compose([f"experiment={experiment}", *overrides]), {"experiment": None})
    if params["experiment"]:
        params = params_for(experiment, overrides)
    write_text(PARAMS, rewrite(PARAMS.read_text(encoding="utf-8"), params))
    print(f"{PARAMS} now {'names' if params['experiment'] else 'follows'} experiment {experiment}. Next: dvc repro")


if __name__ == "__main__":
    run(main, __doc__)
