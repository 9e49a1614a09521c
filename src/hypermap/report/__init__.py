"""The report of a run: what a reviewer reads in a pull request, and what `dvc plots` draws."""

from hypermap.report.diagnosis import Finding, diagnose
from hypermap.report.page import Run, write_report

__all__ = ["Finding", "Run", "diagnose", "write_report"]
