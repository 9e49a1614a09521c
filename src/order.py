"""Write the order of an experiment: python src/order.py NAME (or: make order EXPERIMENT=NAME)."""

import io
import sys

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from hypermap.compose import order_for
from hypermap.errors import UserError, run
from hypermap.files import write_text
from hypermap.menu import ORDER, groups, read_order


def main() -> None:
    """Replace the choices in params.yaml by the experiment's; comments stay where they are."""
    names = ", ".join(groups()["experiment"])
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise UserError(f"name an experiment: make order EXPERIMENT=NAME. There are: {names}.")
    read_order()  # tells what is wrong with the present one
    yaml = YAML()
    yaml.width = 110
    order = yaml.load(ORDER.read_text(encoding="utf-8"))
    for key, value in order_for(sys.argv[1]).items():
        order[key] = CommentedMap(value) if isinstance(value, dict) else value
        if isinstance(value, dict):
            order[key].fa.set_flow_style()
    text = io.StringIO()
    yaml.dump(order, text)
    write_text(ORDER, text.getvalue())
    print(f"{ORDER} now names experiment {sys.argv[1]}. Next: dvc repro")


if __name__ == "__main__":
    run(main)
