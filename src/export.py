"""Write the trained network and its preparation as one program of torch.export: python src/export.py [model=models].

make export                                              the model that dvc repro made, into exported/
python src/export.py model=studies/NAME/NUMBER output=FOLDER    another one, elsewhere
python src/export.py model=FOLDER trust=true     a model that names other code than this project's, where you trust it
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, export, and say how near the program comes to the network."""
    from hypermap.inference.export import ExportArgs

    print(ExportArgs.of(sys.argv[1:]).answer())


if __name__ == "__main__":
    run(main, __doc__)
