"""A Slurm of two nodes on this machine, in a folder of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
PATIENCE_S = 30.0

CONF = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
KillWait={kill_wait_s}
MinJobAge=10
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


def why_not() -> str | None:
    """Return why there can be no Slurm here; None if there can."""
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"needs {missing[0]} (apt install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "a Slurm of one's own is started as root"


@contextmanager
def slurm(folder: Path, kill_wait_s: int = 30) -> Iterator[dict[str, str]]:
    """Start it, and yield the variables with which its commands find it."""
    folder.mkdir(mode=0o755)
    for name in ("state", "spool-node1", "spool-node2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, ports=_free_ports(3), kill_wait_s=kill_wait_s))
    variables = {"SLURM_CONF": str(conf), "PATH": os.environ["PATH"]}
    files = [f"--{kind}={folder}/munge.{kind.split('-')[0]}" for kind in ("socket", "key-file", "log-file", "pid-file")]
    commands = [
        ["munged", "--foreground", "--force", *files, f"--seed-file={folder}/munge.seed"],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "node1"],
        ["slurmd", "-D", "-N", "node2"],
    ]
    daemons = []
    try:
        with (folder / "daemons.log").open("w") as log:
            for words in commands:
                env = os.environ | variables
                daemons.append(subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True))
                _wait(lambda: words[0] != "munged" or (folder / "munge.socket").exists(), folder)  # noqa: B023
            _wait(lambda: _idle(variables) == 2, folder)
            yield variables
    finally:
        with suppress(subprocess.SubprocessError, OSError):
            subprocess.run(["scancel", "--full", "--user=root"], env=os.environ | variables, timeout=5, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _idle(variables: dict[str, str]) -> int:
    words = ["sinfo", "--noheader", "--Node", "--format=%t"]
    shown = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False)
    return shown.stdout.split().count("idle")


def _wait(met, folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < end, "".join(log.read_text() for log in folder.glob("*.log"))
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
