"""The report of a run: what a reviewer reads in a pull request, and what `dvc plots` draws."""

from hypermap.report.beside import Beside
from hypermap.report.diagnosis import Finding, diagnose
from hypermap.report.maps import Map, place
from hypermap.report.page import write_report
from hypermap.report.run import Run

__all__ = ["Beside", "Finding", "Map", "Run", "diagnose", "place", "write_report"]
