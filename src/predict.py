"""Predict for the rows of a table with the trained model: a class and the probabilities, or a value, for each.

python src/predict.py input=new.csv output=predictions.csv           with the model from dvc repro
python src/predict.py input=new.parquet output=predictions.parquet   Parquet in and out
python src/predict.py … model=studies/NAME/NUMBER                    another model: of a trial or a run in outputs/
python src/predict.py … separator=';' decimal=,                      the file's format, if it is not detected, and not
                                                                     that of the training file
python src/predict.py … model=FOLDER trust=true      a model that names code outside this project, if you trust it
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, predict, and print a summary."""
    from hypermap.inference.predict import PredictArgs

    print(PredictArgs.of(sys.argv[1:]).answer())


if __name__ == "__main__":
    run(main, __doc__)
