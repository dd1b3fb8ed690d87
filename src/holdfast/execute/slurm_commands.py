"""Runs SLURM's commands, and says in a line what they refused and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from holdfast.core.errors import UserError

TIMEOUT = 90.0
ELSEWHERE = "submit where SLURM is, or use --executor local"
UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Connection timed out"
    r"|Could not establish a configuration source|Zero Bytes were transmitted|Unexpected message received"
    r"|Unable to process configuration file|Transport endpoint|DNS SRV lookup failed",
    re.IGNORECASE,
)
NO_CONFIG = re.compile(r"configuration source|Unable to process configuration file")
REFUSALS = (
    (r"[Ii]nvalid partition", "partitions here: {partitions}"),
    (r"Invalid account|account/partition", "give one that you may use with --account: sacctmgr show assoc user=$USER"),
    (r"Invalid qos", "leave out --qos, or ask which there are: sacctmgr show qos"),
    (r"node configuration is not available|[Ii]nvalid generic resource", "nodes here: {nodes}"),
    (r"time limit|--time", "write --time hours:minutes:seconds, at most what the partition allows: {partitions}"),
    (r"[Jj]ob violates|QOS|[Ll]imit", "wait until some of your jobs have ended, and type the same command"),
    (r"unrecognized option|invalid option", "look at --sbatch-arg and at `slurm:` of holdfast.yaml"),
)


class SlurmError(UserError):
    """SLURM refused something."""


class Unreachable(SlurmError):
    """Nothing is known of what was asked: neither that it happened nor that it did not."""


def call(
    tokens: Sequence[str], environ: Mapping[str, str] | None = None, stdin: str | None = None, timeout: float = TIMEOUT
) -> str:
    """What a command prints.

    Raises:
        Unreachable: no controller answered.
        SlurmError: it was refused; says why.
    """
    try:
        done = subprocess.run(
            tokens, env=environ, input=stdin, capture_output=True, text=True, timeout=timeout, errors="replace"
        )
    except FileNotFoundError:
        raise SlurmError(f"there is no `{tokens[0]}` on this machine", ELSEWHERE) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"`{tokens[0]}` did not answer within {timeout:.0f} s", _ASK_AGAIN) from None
    if done.returncode == 0:
        return done.stdout
    raise _error(tokens[0], done.stderr or done.stdout, done.returncode)


_ASK_AGAIN = "is the controller up? `scontrol ping`; then type the same command again"


def _error(program: str, stderr: str, code: int) -> SlurmError:
    said = _said(program, stderr) or f"exit code {code}"
    if NO_CONFIG.search(stderr):
        return Unreachable(
            f"{program} finds no configuration of a cluster: {said}", "set SLURM_CONF, or --executor local"
        )
    if UNREACHABLE.search(stderr):
        return Unreachable(f"SLURM cannot be reached: {program}: {said}", _ASK_AGAIN)
    return SlurmError(f"{program} refused: {said}")


def _said(program: str, stderr: str) -> str:
    """Its lines without prefixes; the last one is the most general, so the first ones come along."""
    lines = [re.sub(rf"^{re.escape(program)}: (error|fatal): ", "", line).strip() for line in stderr.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))[:300]


def explain(error: SlurmError) -> SlurmError:
    """The same error, with the way out where we know one; looks at the cluster for it."""
    if isinstance(error, Unreachable) or error.hint:
        return error
    for pattern, hint in REFUSALS:
        if re.search(pattern, str(error)):
            return SlurmError(str(error), hint.format(partitions=partitions(), nodes=nodes()))
    return SlurmError(str(error), "look at the script: sbatch takes it by hand, too")


def partitions() -> str:
    return _sinfo("%P (%D nodes, %l)")


def nodes() -> str:
    return _sinfo("%R: %D nodes with %c cores and %G")


def _sinfo(form: str) -> str:
    try:
        lines = call(["sinfo", "--noheader", f"--format={form}"], timeout=20).splitlines()
    except SlurmError:
        return "unknown, sinfo does not answer"
    return ", ".join(sorted({line.strip() for line in lines if line.strip()})) or "none"


def node_count(partition: str) -> int:
    """How many nodes a partition has (without a name: the largest), 0 if nobody says."""
    option = [f"--partition={partition}"] if partition else []
    try:
        said = call(["sinfo", "--noheader", "--format=%R|%D", *option], timeout=20)
    except SlurmError:
        return 0
    counts: dict[str, int] = {}
    for line in said.splitlines():
        name, _, count = line.partition("|")
        counts[name] = counts.get(name, 0) + (int(count) if count.strip().isdigit() else 0)
    return max(counts.values(), default=0)


def is_here(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this machine is part of a cluster: has sbatch, and a configuration to go with it.

    A controller that does not answer is no reason to say no.
    """
    if shutil.which("sbatch", path=environ.get("PATH", os.defpath)) is None:
        return False
    try:
        call(["scontrol", "show", "config"], environ)
    except SlurmError as error:
        return not NO_CONFIG.search(str(error)) or bool(environ.get("SLURM_CONF"))
    return True
