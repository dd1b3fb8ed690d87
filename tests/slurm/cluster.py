"""A real SLURM on this machine: munged, slurmctld and four slurmd with eight pretend GPUs each.

What holds against the scheduler (states, requeues, preemption, dependencies) is only known from a scheduler. Everything
lies in one directory of its own with ports of its own, so clusters live side by side and leave nothing behind.

Run as a program this file is the guardian of one cluster: the parent of its daemons, which ends them and every job they
left, by their own ids, when the process that asked for the cluster is gone, however it went.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

NODES = ("n1", "n2", "n3", "n4")
GPUS = 8
CORES = 16
MAX_ARRAY_SIZE = 101  # indices 0 to 100: small, so that chunking is seen at once
# Seconds, and one more, until a requeued job may start: SLURM waits until the credential of its run before has expired.
# Unless told otherwise that takes 120 s; less than 5 s is not taken.
REQUEUE_DELAY = 5
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
PATH = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
# Below the kernel's ephemeral ports, which any outgoing connection may hold while a daemon is restarted.
PORTS = range(20_000, 29_992, 8)
PR_SET_CHILD_SUBREAPER = 36

SLURM_CONF = """\
ClusterName=holdfast
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock,cred_expire={cred_expire}
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdSpoolDir={directory}/%n
SlurmdPidFile={directory}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize={max_array_size}
MinJobAge=86400
MaxJobCount=100000
KillWait=5
ReturnToService=1
GresTypes=gpu
NodeName={nodes} Port={ports} NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory=100000 Gres=gpu:{gpus}
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


class ClusterError(Exception):
    """The cluster did not do what was asked in time; carries what its logs say."""


class Guardian:
    """The daemons' parent, spoken to by one JSON line each way.

    It is another process, and not this one: it outlives a killed test session long enough to end everything, and
    adopts (as the kernel's "subreaper") what jobs leave behind.
    """

    def __init__(self, directory: Path, claim: socket.socket) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Held until it ends: the ports are ours as long as a daemon may be started.
            pass_fds=[claim.fileno()],
            # Ctrl-C at the terminal is for pytest, which then closes the pipe.
            start_new_session=True,
        )
        self._one_at_a_time = threading.Lock()

    def start(self, name: str, *command: str) -> int:
        """Start a daemon; its output goes to `name`.log. Returns its pid."""
        return self._ask({"start": name, "command": command})

    def end(self, name: str, how: signal.Signals) -> int:
        """Signal a daemon and wait until it is gone. Returns the pid that it had."""
        return self._ask({"end": name, "signal": how})

    def close(self) -> None:
        """End all daemons and jobs, and remove the directory."""
        with self._process:
            pass

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        with self._one_at_a_time:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise ClusterError(f"the guardian of the cluster is gone (asked: {request})")
        return int(answer)


@dataclass(frozen=True)
class Cluster:
    """A running SLURM. `environment` makes the clients of a child process talk to it."""

    directory: Path
    environment: dict[str, str]
    port: int
    guardian: Guardian = field(repr=False)

    def run(self, *command: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a client command.

        Raises:
            ClusterError: it failed and `check` is set.
        """
        others = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        environment = others | self.environment
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def states(self, job: str) -> list[str]:
        """The state of a job or, of an array, of each of its tasks."""
        shown = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={job}")
        return shown.stdout.split()

    def wait_for(self, job: str, states: str | Collection[str], timeout: float = 60) -> list[str]:
        """Wait until the job, or every task of the array, is in one of the states. Returns what they are.

        Raises:
            ClusterError: it did not happen within `timeout` seconds.
        """
        wanted = {states} if isinstance(states, str) else set(states)
        seen: list[str] = []

        def reached() -> bool:
            seen[:] = self.states(job)
            return bool(seen) and wanted.issuperset(seen)

        self._wait(reached, timeout, lambda: f"job {job} is {seen}, not {sorted(wanted)}")
        return seen

    def stop_controller(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End slurmctld: SIGTERM lets it save its state; SIGKILL loses jobs a few seconds old, whose ids come again."""
        self.guardian.end("slurmctld", how)

    def start_controller(self) -> None:
        """Start slurmctld with the state that the one before saved, and wait until it answers."""
        self.guardian.start("slurmctld", "slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._wait(self._answers, 60, lambda: "slurmctld does not answer")

    def kill_slurmd(self, node: str) -> int:
        """End the daemon of a node as a crash would. What runs there goes on unwatched. Returns the pid it had."""
        return self.guardian.end(node, signal.SIGKILL)

    def start_slurmd(self, *nodes: str) -> None:
        """Start the daemons of nodes and wait until they have registered."""
        asked = time.time()
        for node in nodes:
            self.guardian.start(node, "slurmd", "-D", "-N", node, "-f", self.environment["SLURM_CONF"])
        self._wait(
            lambda: all(self._registered(node, asked) for node in nodes),
            60,
            lambda: f"not all of {nodes} have registered: {self.node_states()}",
        )

    def drain(self, node: str) -> None:
        """Take no more jobs; what runs goes on."""
        self._set_state(node, "drain")

    def down(self, node: str) -> None:
        """Declare a node dead: its jobs are requeued, or NODE_FAIL where they may not be."""
        self._set_state(node, "down")

    def resume(self, node: str) -> None:
        """Undo `drain` and `down`."""
        self._set_state(node, "resume")

    def node_states(self) -> dict[str, str]:
        """`idle`, `mixed`, `allocated`, `drained`, `down*` and so on, by node."""
        rows = self.run("sinfo", "--noheader", "--Node", "--partition=batch", "--format=%N %T", check=False).stdout
        return dict(row.split() for row in rows.splitlines())

    def _set_state(self, node: str, state: str) -> None:
        self.run("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")

    def _registered(self, node: str, since: float) -> bool:
        shown = self.run("scontrol", "--oneliner", "show", "node", node).stdout
        started = re.search(r"SlurmdStartTime=(\S+T\S+)", shown)
        in_time = started is not None and datetime.fromisoformat(started[1]).timestamp() >= int(since)
        return in_time and _listens(self.port + 1 + NODES.index(node))

    def _answers(self) -> bool:
        return _listens(self.port) and self.run("squeue", "--noheader", check=False).returncode == 0

    def _wait(self, happened: Callable[[], bool], timeout: float, trouble: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > deadline:
                raise ClusterError(f"after {timeout:g} s {trouble()}\n{self._log_tails()}")
            time.sleep(0.05)

    def _log_tails(self) -> str:
        tails = []
        for log in sorted(self.directory.glob("*.log")):
            tails += [f"{log.stem}: {line}" for line in log.read_text(errors="replace").splitlines()[-8:]]
        return "\n".join(tails)


def _listens(port: int) -> bool:
    """Whether somebody does: a client would retry for nine seconds before it says that nobody did."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def missing_parts() -> str | None:
    """Why no cluster can run here, or None when one can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    return f"not installed: {', '.join(missing)} (`make system-packages` installs them)" if missing else None


@contextlib.contextmanager
def running(requeue_delay: int = REQUEUE_DELAY) -> Iterator[Cluster]:
    """A cluster of its own for as long as the block runs.

    Raises:
        ClusterError: a daemon did not start.
    """
    # Short, since the daemons' sockets lie in it; munged insists that everybody may pass through.
    directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    directory.chmod(0o711)
    with claim_ports() as claim:
        port = claim.getsockname()[1] + 1
        _write_files(directory, port, requeue_delay)
        guardian = Guardian(directory, claim)
    cluster = Cluster(directory, {"SLURM_CONF": str(directory / "slurm.conf")}, port, guardian)
    try:
        _start_munged(cluster)
        cluster.start_controller()
        cluster.start_slurmd(*NODES)
        yield cluster
    finally:
        guardian.close()


def claim_ports() -> socket.socket:
    """A socket bound to the first of eight ports, of which the others are free.

    Who holds the socket holds all eight: the daemons' own ports are free for moments while a daemon is restarted.
    """
    for first in random.sample(PORTS, len(PORTS)):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", first))
            for port in range(first + 1, first + 2 + len(NODES)):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("", port))
        except OSError:
            claim.close()
        else:
            return claim
    raise ClusterError(f"no eight free ports in a row between {PORTS.start} and {PORTS.stop}")


def _write_files(directory: Path, port: int, requeue_delay: int) -> None:
    (directory / "state").mkdir()
    (directory / "dev").mkdir()
    for number in range(GPUS):
        # SLURM wants a character device and never opens it: a link to one needs no right to make devices.
        (directory / "dev" / f"nvidia{number}").symlink_to("/dev/null")
    (directory / "gres.conf").write_text(f"Name=gpu File={directory}/dev/nvidia[0-{GPUS - 1}]\n")
    key = directory / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    settings = SLURM_CONF.format(
        directory=directory,
        port=port,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        cred_expire=requeue_delay,
        max_array_size=MAX_ARRAY_SIZE,
        nodes=f"n[1-{len(NODES)}]",
        ports=f"[{port + 1}-{port + len(NODES)}]",
        cores=CORES,
        gpus=GPUS,
    )
    (directory / "slurm.conf").write_text(settings)


def _start_munged(cluster: Cluster) -> None:
    files = {"socket": "munge.sock", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
    options = [f"--{option}={cluster.directory / name}" for option, name in files.items()]
    cluster.guardian.start("munged", "munged", "--foreground", *options)
    cluster._wait((cluster.directory / "munge.sock").exists, 10, lambda: "munged does not listen")


def guard(directory: Path) -> None:
    """Start and end daemons as asked on stdin; at its end, end everything and remove the directory."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    daemons: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "start" in request:
                name = request["start"]
                daemons[name] = _start_daemon(directory, name, request["command"])
            else:
                name = request["end"]
                daemons[name].send_signal(request["signal"])
                daemons[name].wait(60)
            print(daemons[name].pid, flush=True)
    finally:
        _end_descendants()
        shutil.rmtree(directory, ignore_errors=True)


def _start_daemon(directory: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    environment = {"PATH": PATH, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    with (directory / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _reap() -> None:
    """Take leave of dead children, adopted ones too. `Popen` copes with a child that another has waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_descendants() -> None:
    """Kill children until there are none: those of a killed child become our own.

    A pid is not reused while its process has not been waited for, and only here it is.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    parent = str(os.getpid()).encode()
    children = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "stat").read_bytes().rpartition(b")")[2].split()[1] == parent:
                children.append(int(process.name))
    return children


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
