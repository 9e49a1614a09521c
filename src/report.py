"""The report of a study, or of several side by side; while a search runs, too.

python src/report.py study=quick                                        a study that was made here
python src/report.py study=NAME storage=sqlite:///FILE                  one made with plain Optuna: a path or URL
python src/report.py study=NAME storage=… trust=true                    one that names other code, where you trust it
python src/report.py study=quick scientific=[model.hidden] goal=TEXT    what it was for, kept in the study
python src/report.py study=[a,b,c]                                      a comparison; study=strategies-* names several
python src/report.py study=quick edge=0.1                               with another threshold (conf/report.yaml)
"""

import sys

from hypermap.core.cli import run


def main() -> None:
    """Read the command line, open the studies, write the report, and say where it is."""
    from hypermap.core.paths import STUDY_REPORTS
    from hypermap.reports.study.command import ReportArgs

    print(ReportArgs.of(sys.argv[1:]).answer(STUDY_REPORTS))


if __name__ == "__main__":
    run(main, __doc__)
