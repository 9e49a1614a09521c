"""Where the project keeps what: its own sources, and folders and files from the folder that commands are given in."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = PACKAGE.parent  # src/: the package, and modules of a person's own
ROOT = SOURCES.parent
CONF = ROOT / "conf"

PARAMS = Path("params.yaml")
CONFIGS = Path("reports/config")  # a slice of the configuration for each stage
DOWNLOADS = Path("data/raw")
PREPARED = Path("data/prepared")
CACHE = Path("data/cache")  # other prepared data, and the kernel that was built here
MODELS = Path("models")
BASELINES = Path("baselines")
REPORTS = Path("reports")
VALIDATION = REPORTS / "validation.json"
RUNS = Path("runs")  # states of runs that go on where they were stopped
STUDIES = Path("studies")  # kept by name
STUDY_REPORTS = REPORTS / "studies"
THRESHOLDS = Path("conf/report.yaml")  # of a study's report
EXPORTED = Path("exported")
