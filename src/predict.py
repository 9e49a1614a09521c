"""What the trained model says of the rows of a table: a class and its probabilities, or a value, for each.

python src/predict.py input=new.csv output=predictions.csv           with the model that dvc repro made
python src/predict.py input=new.parquet output=predictions.parquet   Parquet in and out
python src/predict.py … model=studies/NAME/NUMBER                    with another: a trial's, or a run's in outputs/
python src/predict.py … separator=';' decimal=,                      how the file is written, where that is neither
                                                                     found nor as it was of the training file
python src/predict.py … model=FOLDER trust=true      one that names other code than this project's, where you trust it
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, predict, and say what came of it."""
    from hypermap.inference.predict import PredictArgs

    print(PredictArgs.of(sys.argv[1:]).answer())


if __name__ == "__main__":
    run(main, __doc__)
