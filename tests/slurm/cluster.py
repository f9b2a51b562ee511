"""A Slurm cluster on this machine's loopback: munged, slurmctld and two nodes of one CPU each.

``python tests/slurm/cluster.py`` keeps one up until Ctrl-C, and says how to use it. It needs Debian's
slurm-wlm and munge, and touches no service of the machine: keys, sockets, ports and logs are its own.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import psutil

NODES = ("n1", "n2")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_OURS = "SLURM_TEST_CLUSTER"
"""Environment variable that only the daemons of a cluster have, and what they become: its folder."""
_START, _GRACE = 30.0, 5.0
"""Seconds that the cluster has for coming up, and its processes for going."""
_SBIN = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    folder: Path
    """All its files."""

    @property
    def env(self) -> dict[str, str]:
        """What Slurm's commands need in their environment to mean this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *arguments: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.check_output(arguments, env=os.environ | self.env, text=True, timeout=30)

    def ended(self) -> list[dict[str, str]]:
        """Every job that has ended, as Slurm recorded it: JobId, JobState, NodeList, StartTime, EndTime …"""
        record = self.folder / "ended.log"
        lines = record.read_text().splitlines() if record.exists() else []
        return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in lines]


def missing() -> list[str]:
    """Programs of Slurm's that are not installed here."""
    return [name for name in _PROGRAMS if shutil.which(name, path=_SBIN) is None]


@contextmanager
def cluster() -> Generator[Cluster]:
    """Keep a cluster up while the block runs; afterwards nothing of it is left, nor of its jobs.

    Raises:
        RuntimeError: It did not come up; with the ends of its logs.
    """
    folder = Path(tempfile.mkdtemp(prefix="punie-slurm-"))  # a short path: sockets allow 107 bytes
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_end, folder)
        _configure(folder)
        found = Cluster(folder)
        _start(found, "munged", *_munge(folder))
        _wait_until(found, (folder / "munge.socket").is_socket)
        _start(found, "slurmctld", "-D")
        for node in NODES:
            _start(found, "slurmd", "-D", "-N", node)
        _wait_until(found, lambda: _idle(found))
        yield found


def _configure(folder: Path) -> None:
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    host, user = socket.gethostname().split(".")[0], getuser()
    control, *ports = _free_ports(1 + len(NODES))
    lines = [
        "ClusterName=punie",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={control}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        f"AuthInfo=socket={folder}/munge.socket",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd.%n.pid",
        "ProctrackType=proctrack/pgid",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "ReturnToService=2",
        "JobCompType=jobcomp/filetxt",
        f"JobCompLoc={folder}/ended.log",
        "KillWait=2",  # seconds from scancel's SIGTERM, which submitit ignores, to SIGKILL
        *(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
            for node, port in zip(NODES, ports, strict=True)
        ),
        f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")


def _munge(folder: Path) -> list[str]:
    """Arguments for a munged of the cluster's own; it minds that /tmp is everyone's, hence --force."""
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
    files |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    return ["--foreground", "--force", *(f"--{option}={folder / name}" for option, name in files.items())]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(found: Cluster, program: str, *arguments: str) -> None:
    with (found.folder / f"{program}.log").open("ab") as log:
        subprocess.Popen(
            [shutil.which(program, path=_SBIN) or program, *arguments],
            env=os.environ | found.env | {_OURS: str(found.folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for whoever stops the cluster
        )


def _idle(found: Cluster) -> bool:
    try:
        states = found.command("sinfo", "--Node", "--noheader", "--format=%T").split()
    except subprocess.CalledProcessError:
        return False  # slurmctld does not answer yet
    return states == ["idle"] * len(NODES)


def _wait_until(found: Cluster, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _START
    while not ready():
        if time.monotonic() > until:
            logs = (f"{path.name}:\n{path.read_text()[-1500:]}" for path in found.folder.glob("*.log"))
            raise RuntimeError("The Slurm cluster did not come up.\n" + "\n".join(logs))
        time.sleep(0.1)


def _processes(folder: Path) -> set[psutil.Process]:
    """The cluster's daemons, the job steps they became, and all that runs under those."""
    mark, found = f"{_OURS}={folder}\0".encode(), set[psutil.Process]()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # Not psutil's environ(): a step writes its title over the beginning, and that ends there.
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes():
                found |= {process, *process.children(recursive=True)}
    return found


def _end(folder: Path) -> None:
    """End every process of the cluster; a step that starts meanwhile is seen in the next look."""
    while processes := _processes(folder):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(processes, timeout=_GRACE)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=_GRACE)


if __name__ == "__main__":
    if absent := missing():
        sys.exit(f"not installed: {', '.join(absent)} (apt-get install -y slurm-wlm munge)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), cluster() as up:
        print(*(f"export {key}={shlex.quote(value)}" for key, value in up.env.items()), sep="\n", flush=True)
        signal.pause()
