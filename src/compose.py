"""The first stage: compose params.yaml and conf/ into one resolved slice of the configuration for each later stage."""

import sys

import yaml

from hypermap.config.compose import compose, slices
from hypermap.config.groups import read_params
from hypermap.config.portfolio import AUTOML, AUTOML_ROOMS, chosen, expanded
from hypermap.core.cli import run
from hypermap.core.cli_args import check_none
from hypermap.core.files import write_text
from hypermap.core.hashing import fingerprint_of_code, own_code
from hypermap.core.paths import CONFIGS
from hypermap.datasets.prepare import file_checksum


def main() -> None:
    """Write a slice for each stage, with the checksums of the user's modules and data files it depends on."""
    check_none(sys.argv[1:])
    whole = compose(params=read_params())
    parts = slices(whole)
    if chosen(whole):
        parts["train"][AUTOML] = expanded(whole)
    if checksum := file_checksum(parts["preprocess"]["data"]):
        parts["preprocess"]["files_sha256"] = checksum
    reader = parts["preprocess"]["data"]  # which may name a task and a preprocessor, and so has a part in each stage
    for stage, configuration in parts.items():
        own = own_code([configuration, reader])
        if chosen(configuration):
            own["hypermap.automl"] = fingerprint_of_code(AUTOML_ROOMS)
        if own:
            configuration["code_sha256"] = own
        text = yaml.safe_dump(configuration, sort_keys=False, default_flow_style=False)
        write_text(CONFIGS / f"{stage}.yaml", f"# Composed from params.yaml and conf/: what {stage} needs.\n{text}")


if __name__ == "__main__":
    run(main, __doc__)
