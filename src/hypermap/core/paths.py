"""Paths of the project: its sources, and folders and files relative to the folder in which commands are run."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = PACKAGE.parent  # src/: the package, and the user's modules
ROOT = SOURCES.parent
CONF = ROOT / "conf"

PARAMS = Path("params.yaml")
CONFIGS = Path("reports/config")  # a slice of the configuration for each stage
DOWNLOADS = Path("data/raw")
PREPARED = Path("data/prepared")
CACHE = Path("data/cache")  # other prepared data, and the kernel built on this machine
MODELS = Path("models")
BASELINES = Path("baselines")
REPORTS = Path("reports")
VALIDATION = REPORTS / "validation.json"
RUNS = Path("runs")  # states of runs, to resume them
STUDIES = Path("studies")  # one folder per study, by name
STUDY_REPORTS = REPORTS / "studies"
THRESHOLDS = Path("conf/report.yaml")  # of a study's report
EXPORTED = Path("exported")
