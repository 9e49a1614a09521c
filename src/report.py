"""Write the report of a study or a comparison of several, even while a search runs.

python src/report.py study=quick                                        a study of this project
python src/report.py study=NAME storage=sqlite:///FILE                  a study of plain Optuna: a path or URL
python src/report.py study=NAME storage=… trust=true                    one that names other code, if you trust it
python src/report.py study=quick scientific=[model.hidden] goal=TEXT    its goal, stored in the study
python src/report.py study=[a,b,c]                                      a comparison; study=strategies-* matches several
python src/report.py study=quick edge=0.1                               with another threshold (conf/report.yaml)
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, open the studies, write the report, and print where it is."""
    from hypermap.core.paths import STUDY_REPORTS
    from hypermap.reports.study.command import ReportArgs

    print(ReportArgs.of(sys.argv[1:]).answer(STUDY_REPORTS))


if __name__ == "__main__":
    run(main, __doc__)
