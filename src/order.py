"""Write the order of an experiment: python src/order.py NAME (or: make order EXPERIMENT=NAME)."""

import sys

from hypermap.compose import order_for
from hypermap.errors import UserError, run
from hypermap.files import write_text
from hypermap.menu import ORDER, groups, read_order
from hypermap.order import rewrite


def main() -> None:
    """Replace the choices in params.yaml by the experiment's; comments stay where they are."""
    names = ", ".join(groups()["experiment"])
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise UserError(f"name an experiment: make order EXPERIMENT=NAME. There are: {names}.")
    read_order()  # tells what is wrong with the present one
    write_text(ORDER, rewrite(ORDER.read_text(encoding="utf-8"), order_for(sys.argv[1])))
    print(f"{ORDER} now names experiment {sys.argv[1]}. Next: dvc repro")


if __name__ == "__main__":
    run(main)
