"""A Ray cluster on this machine: a head that takes no tasks, and nodes."""

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

SMALL = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
# Without the first, a token is written into the home folder.
VARIABLES = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_cluster(folder: Path, nodes: int = 2, cpus: int = 1) -> Iterator[Any]:
    """Start a cluster whose processes run in `folder`; yield it (`ray.cluster_utils.Cluster`)."""
    os.environ.update(VARIABLES)
    from ray.cluster_utils import Cluster

    folder.mkdir(exist_ok=True)
    with chdir(folder):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=cpus, object_store_memory=SMALL["object_store_memory"])
            yield cluster
        finally:
            cluster.shutdown()
