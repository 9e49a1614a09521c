"""Write the trained network and its preprocessing as one torch.export program: python src/export.py [model=models].

make export                                              the model from dvc repro, into exported/
python src/export.py model=studies/NAME/NUMBER output=FOLDER    another model, into another folder
python src/export.py model=FOLDER trust=true     a model that names code outside this project, if you trust it
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, export, and print how close the program's outputs are to the network's."""
    from hypermap.inference.export import ExportArgs

    print(ExportArgs.of(sys.argv[1:]).answer())


if __name__ == "__main__":
    run(main, __doc__)
