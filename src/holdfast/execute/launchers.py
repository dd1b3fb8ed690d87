"""How a command is started in an allocation: once, by torchrun on every node, or beside a Ray; in a container or not.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.core.job import Job, Task

LAUNCHERS = ("plain", "torchrun", "ray")
TORCHRUN = ("-m", "torch.distributed.run")
PYTHON = re.compile(r"(.*/)?python[\d.]*")
RANKED = 'export PET_NODE_RANK="$SLURM_NODEID"; exec "$@"'
"""torchrun reads its options from PET_ variables, too: the only one that differs between nodes comes that way."""


@dataclass(frozen=True)
class Spot:
    """Where a server runs: the address at which it listens, and what starts it there. Loopback on our own node, unless
    there are others that must reach it.
    """

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


def wrap(command: Sequence[str], job: Job, task: Task, program: Path, environ: Mapping[str, str]) -> list[str]:
    """The tokens to start for `command`. `program` is the frozen supervisor, which carries the driver of a Ray."""
    if job.launcher == "ray":
        ours = [*job.python, str(program), "--ray", str(program.parent), task.key]
        return [*ours, "--", *command]
    if job.launcher != "torchrun":
        return [*step(job), *command] if job.container else list(command)
    inner = torchrun(command, task, environ)
    if task.nodes > 1:
        return [*step(job, nodes=task.nodes), "sh", "-c", RANKED, "sh", *inner]
    return [*step(job), *inner] if job.container else inner


def step(job: Job, nodes: int = 1, node: str = "") -> list[str]:
    """The `srun` that starts something in this allocation, one process a node.

    `--export=ALL` says again what a site may have turned off; `--overlap` lets two steps share what the job has.
    """
    tokens = ["srun", "--overlap", "--export=ALL", f"--nodes={nodes}", f"--ntasks={nodes}", "--kill-on-bad-exit=1"]
    tokens += [f"--nodelist={node}"] if node else []
    return tokens + container_flags(job)


def container_flags(job: Job) -> list[str]:
    """Pyxis: the image, with the root and the working directory mounted besides what was asked for."""
    if not job.container:
        return []
    mounts = [mount for mount in job.mounts.split(",") if mount]
    inside = [mount.split(":")[0] for mount in mounts]
    for needed in (job.root, job.cwd):
        if not any(Path(needed).is_relative_to(each) for each in inside):
            mounts.append(f"{needed}:{needed}")
            inside.append(needed)
    flags = [f"--container-image={job.container}", f"--container-mounts={','.join(mounts)}"]
    flags += ["--no-container-mount-home", f"--container-workdir={job.cwd}"]
    return flags + ([f"--container-env={','.join(job.env)}"] if job.env else [])


def torchrun(command: Sequence[str], task: Task, environ: Mapping[str, str]) -> list[str]:
    """`command` by torchrun, as many processes on each node as it has GPUs. The node's rank comes from srun."""
    options = [f"--nproc-per-node={max(1, task.gpus)}"]
    if task.nodes > 1:
        options += [f"--nnodes={task.nodes}", f"--master-addr={first_address(environ)}"]
        options += [f"--master-port={free_port()}"]
    else:
        options += ["--standalone"]
    return _insert(list(command), [*TORCHRUN, *options])


def _insert(command: list[str], run: list[str]) -> list[str]:
    """Between the interpreter and the script; any other program is started by our own interpreter's torchrun."""
    if PYTHON.fullmatch(command[0]):
        return [command[0], *run, *command[1:]]
    if command[:2] == ["uv", "run"]:
        script = next((n for n, token in enumerate(command) if token.endswith(".py")), len(command))
        before = [token for token in command[:script] if not PYTHON.fullmatch(token)]
        return [*before, "python", *run, *command[script:]]
    return ["python", *run, "--no-python", *command]


def spots(job: Job, task: Task, environ: Mapping[str, str]) -> list[Spot]:
    """Where each service of a task is started: on every node of its allocation, in the container if there is one."""
    if task.nodes == 1 or job.executor != "slurm":
        return [Spot(prefix=tuple(step(job)) if job.container else ())]
    return [Spot(address(node), tuple(step(job, node=node))) for node in node_names(environ, task.nodes)]


def node_names(environ: Mapping[str, str], count: int) -> list[str]:
    """The nodes of the allocation, ours first."""
    if count == 1:
        return [environ.get("SLURMD_NODENAME") or socket.gethostname()]
    listed = ["scontrol", "show", "hostnames", environ["SLURM_JOB_NODELIST"]]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    mine = environ.get("SLURMD_NODENAME", names[0])
    return sorted(names, key=lambda name: name != mine)


def first_address(environ: Mapping[str, str]) -> str:
    """How the other nodes reach the first one, on which we are."""
    return address(environ.get("SLURMD_NODENAME", ""))


def address(node: str) -> str:
    """How other nodes reach one. Its name need not resolve, its NodeAddr does."""
    if node and shutil.which("scontrol"):
        shown = subprocess.run(["scontrol", "--oneliner", "show", "node", node], capture_output=True, text=True)
        if match := re.search(r"\bNodeAddr=(\S+)", shown.stdout):
            return match[1]
    return node or socket.gethostname()


def free_port() -> int:
    """A port that nobody on this machine listens at, of any address; another program may still be faster."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
