"""Where a request runs: what was typed, over what is saved of a cluster, over what is usual there.

`launch`, `evaluate` and `rollout run` take the same flags for it, and ask here.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.core import attempt
from holdfast.core.errors import UserError
from holdfast.execute import sbatch, slots
from holdfast.execute.choose import ClusterDefaults, cluster_defaults, default_parallel, settle_name
from holdfast.execute.submit import Placement
from holdfast.pipelines.launch.request import Request

USUAL_TIME = "4:0:0"
USUAL_PARTITION = "batch"
USUAL_MOUNTS = "/lustre:/lustre"
NO_CONTAINER = "none"
GPUS_OF_A_CLUSTER = 8


@dataclass(frozen=True)
class Placed:
    """A request with its executor and its time settled, and the placement that its points share: one process on one
    node. `stamp` tells a fresh result (`--new`) from the ones before, and is empty without.
    """

    request: Request
    defaults: ClusterDefaults
    placement: Placement
    stamp: str


def settle(
    request: Request, executor: str | None, max_parallel: int | None, *, has_root: bool, usual_time: str = USUAL_TIME
) -> Placed:
    """Where a request runs, on the `executor` that was typed.

    Raises:
        UserError: a number that cannot be, or all that a cluster needs and nobody said.
    """
    defaults = cluster_defaults()
    settled = replace(
        request,
        executor=settle_name(executor or defaults.executor),
        time=str(request.time or defaults.time or usual_time),
    )
    _check_numbers(settled, max_parallel)
    if settled.executor == "slurm":
        _check_cluster(settled, defaults, os.environ, has_root=has_root)
    at_once = max_parallel or defaults.max_parallel or default_parallel(settled.executor)
    placement = replace(_placement(settled, defaults, os.environ), max_parallel=at_once)
    return Placed(settled, defaults, placement, _fresh_stamp() if request.new else "")


def resources(
    nodes: int | None, gpus: int | None, defaults: ClusterDefaults, *, on_cluster: bool, most_here: int | None = None
) -> tuple[int, int, str]:
    """Nodes, GPUs of each, and what is to be said of it: what was asked for, what is saved of a cluster, what its
    nodes have; on this machine all that it has, or `most_here` of them.
    """
    nodes = nodes or (on_cluster and defaults.nodes) or 1
    if on_cluster:
        usual = GPUS_OF_A_CLUSTER if defaults.gpus is None else defaults.gpus
        return nodes, usual if gpus is None else gpus, ""
    note = f"this machine is one node, {nodes} are asked for: running on 1" if nodes > 1 else ""
    return 1, len(slots.devices()[:most_here]) if gpus is None else gpus, note


def _fresh_stamp() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _check_numbers(request: Request, max_parallel: int | None) -> None:
    for flag, value, least in (
        ("--nodes", request.nodes, 1),
        ("--gpus", request.gpus, 0),
        ("--max-parallel", max_parallel, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{flag} is {value}, expected a number from {least}", f"for example {flag} {least}")


def _check_cluster(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str], *, has_root: bool) -> None:
    """Names each variable that is not set, with what else would do."""
    said = {
        "LOG": has_root or environ.get("LOG"),
        "ACCOUNT": request.account or defaults.account or environ.get("ACCOUNT"),
        "CON": _container_is_settled(request.container or defaults.container)
        or defaults.containers
        or environ.get("CON"),
    }
    instead = {"LOG": "--root", "ACCOUNT": "--account", "CON": f"--container /path, or --container {NO_CONTAINER}"}
    absent = [name for name, value in said.items() if not value]
    if absent:
        raise UserError(
            f"not set, and needed to launch on SLURM: {', '.join(absent)}",
            "export "
            + " ".join(f"{name}=..." for name in absent)
            + f" (or {'; '.join(instead[name] for name in absent)})",
        )


def _container_is_settled(name: str | None) -> bool:
    return name is not None and (name == NO_CONTAINER or _is_address(name))


def _is_address(name: str) -> bool:
    """An absolute path, or a name that a registry knows: `nvcr.io/nvidia/x`, `docker://x`, `a#b`, `image:tag`."""
    host = re.split("[/#]", name)[0]
    return name.startswith(("/", "./", "../")) or "#" in name or ":" in name or ("/" in name and "." in host)


def _container(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str]) -> str:
    """The container's path or address, empty for none: a bare name is in `$CON`."""
    name = request.container or defaults.container
    if name is None or name == NO_CONTAINER:
        return ""
    if _is_address(name):
        return name
    folder = environ.get("CON") or defaults.containers
    return f"{folder}/{name}" if folder else name


def _placement(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str]) -> Placement:
    limit = str(request.time)
    sbatch.seconds(limit)
    return Placement(
        executor=request.executor,
        trackers=request.trackers,
        time=limit,
        max_time=str(defaults.max_time or ""),
        lead=defaults.lead,
        heartbeat=defaults.heartbeat or attempt.HEARTBEAT_SECONDS,
        silence=defaults.silence or attempt.SILENCE_SECONDS,
        account=request.account or defaults.account or environ.get("ACCOUNT", ""),
        partition=request.partition or defaults.partition or USUAL_PARTITION,
        container=_container(request, defaults, environ),
        mounts=request.mounts or defaults.mounts or USUAL_MOUNTS,
        setup=(*defaults.setup, *request.setup),
        sbatch_args=(*defaults.sbatch_args, *request.sbatch_args),
        env=(*defaults.env, *(each for each in request.env if "=" not in each)),
    )
