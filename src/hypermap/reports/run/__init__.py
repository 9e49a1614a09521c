"""The report of a run: what a reviewer reads in a pull request, and what `dvc plots` draws."""

from hypermap.reports.run.baseline_table import BaselineTable
from hypermap.reports.run.diagnosis import Finding, diagnose
from hypermap.reports.run.page import write_report
from hypermap.reports.run.projection import Projection, project
from hypermap.reports.run.run import Kept, Run, Search

__all__ = ["BaselineTable", "Finding", "Kept", "Projection", "Run", "Search", "diagnose", "project", "write_report"]
