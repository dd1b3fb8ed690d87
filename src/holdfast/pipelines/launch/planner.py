"""Plans a launch: a `command` stage for each point, its name, and the exact command line.

A key holds what is run: script, config with overrides, variables. Placement holds how: tokens, directories, names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import attempt, config, kind
from holdfast.core.errors import DamagedFile, UnreadableFile, UserError
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.stage import Stage
from holdfast.core.store import Store
from holdfast.execute.choose import ClusterDefaults
from holdfast.execute.sbatch import seconds
from holdfast.pipelines import placing, points
from holdfast.pipelines.launch import code, injection, intent, wandb
from holdfast.pipelines.launch.intent import Base, Intent
from holdfast.pipelines.launch.request import Program, Request
from holdfast.pipelines.points import Cell
from holdfast.stages import profile as profiles
from holdfast.stages.profile import Profile
from holdfast.sweeps.space import Point
from holdfast.trackers import wandb_run

SECRET = re.compile(r"(?i)(token|secret|passw|credential|private|(^|_)key$|api_?key|(^|_)auth$)")
FOLDERS = ("checkpoints", "logs", "wandb")


@dataclass(frozen=True)
class Launch:
    """`cells` in the order of the sweep, each work once; `same` names the points that are the same work as an earlier
    one; `notes` are for the person who launches.
    """

    name: str
    cells: tuple[Cell, ...]
    same: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    is_sweep: bool
    launcher: str
    code: Mapping[str, Any]
    adopted: tuple[Record, ...] = ()

    @property
    def plan(self) -> Plan:
        return Plan((cell.record for cell in self.cells), self.adopted)

    def groups(self) -> dict[tuple[int, int], Plan]:
        """The points by what they need: (nodes, GPUs of each)."""
        needs = dict.fromkeys((cell.nodes, cell.gpus) for cell in self.cells)
        return {
            need: Plan((cell.record for cell in self.cells if (cell.nodes, cell.gpus) == need), self.adopted)
            for need in needs
        }


@dataclass(frozen=True)
class Setting:
    """What all points of a launch share."""

    request: Request
    defaults: ClusterDefaults
    program: Program
    base: Base
    profile: Profile
    store: Store
    environ: Mapping[str, str]
    stamp: str
    script: str
    starts: tuple[str, ...]
    code: Mapping[str, Any]
    wandb_off: str
    directory: Path
    name: str

    @property
    def on_cluster(self) -> bool:
        return self.request.executor == "slurm"


def plan(
    request: Request,
    program: Program,
    defaults: ClusterDefaults,
    store: Store,
    environ: Mapping[str, str],
    stamp: str = "",
) -> Launch:
    """The plan of one command line. `stamp` tells a fresh result (`--new`) from the ones before.

    Raises:
        UserError: it asks for something impossible.
    """
    setting, notes = _setting(request, program, defaults, store, environ, stamp)
    if program.sweep:
        points.check_room(store, setting.name)

    def make(point: Point, label: str) -> Cell:
        found = intent.intent(setting.base, point, request.tokens, request.behind, setting.profile)
        return _cell(setting, found, label, notes)

    planned = points.plan(program.sweep, _label_keys(setting), make)
    return Launch(
        name=setting.name,
        cells=planned.each,
        same=planned.same,
        notes=tuple(dict.fromkeys(notes)),
        is_sweep=bool(program.sweep),
        launcher=setting.profile.launcher,
        code=setting.code,
        adopted=request.adopted,
    )


def _setting(
    request: Request,
    program: Program,
    defaults: ClusterDefaults,
    store: Store,
    environ: Mapping[str, str],
    stamp: str,
) -> tuple[Setting, list[str]]:
    base = intent.read_base(program.config)
    script = Path(program.script)
    on_cluster = request.executor == "slurm"
    starts, note = code.interpreter(script, request.interpreter, on_cluster=on_cluster)
    off = wandb.why_off(starts, code.lock(script), environ, sys.executable)
    name = request.jobname or request.usual_name or script.stem
    name = f"{name}-{stamp}" if stamp else name
    points.check_name(name)
    name = f"{request.folder}/{name}" if request.folder else name
    return Setting(
        request=request,
        defaults=defaults,
        program=program,
        base=base,
        profile=intent.choose_profile(request.profile, base),
        store=store,
        environ=environ,
        stamp=stamp,
        script=code.relative(script),
        starts=tuple(starts),
        code=code.state(script),
        wandb_off=off,
        directory=_directory(request, program, store),
        name=f"{name}_sweep" if program.sweep else name,
    ), [each for each in (note, f"W&B is off: {off}" if off else "") if each]


def _directory(request: Request, program: Program, store: Store) -> Path:
    """Where the script runs: here, or the same place in a copy of the repository.

    Raises:
        UserError: script or config would not be in the copy.
    """
    here = Path.cwd()
    if not request.snapshot:
        return here
    copy = code.Snapshot.of(code.top_of(here), store.root)
    for path in (program.script, program.config):
        if path and not copy.holds(Path(path)):
            raise UserError(
                f"{path} is not in a snapshot of {copy.top}: git ignores it, it is outside, or the path is absolute",
                "let git know it, or launch without --snapshot",
            )
    place = here.resolve().relative_to(copy.top)
    if not any(Path(name).is_relative_to(place) for name in copy.names):
        raise UserError(
            f"{here} is not in a snapshot of {copy.top}: git knows no file in it", "launch from another place"
        )
    return (copy.folder(store) if request.dry else copy.make(store)) / place


def _label_keys(setting: Setting) -> list[str]:
    """The keys that name a point: those with a list of values, unless the command line set them."""
    sweep = setting.program.sweep
    if sweep is None:
        return []
    by_hand = {config.key_of(token) for token in setting.request.forwarded if intent.is_override(token)}
    return points.label_keys(sweep, by_hand)


def _cell(setting: Setting, found: Intent, label: str, notes: list[str]) -> Cell:
    stage = _stage(setting, found)
    nodes, gpus = _resources(setting, found, notes)
    wanted = f"{setting.name}/{label}" if label else setting.name
    home = points.settle_home(setting.store, stage, wanted, notes, asked=bool(setting.request.jobname))
    placement = {
        "params": _how(setting, found, stage.key, home, nodes, gpus),
        "gpus": gpus,
        "nodes": nodes,
        "point": {config.key_of(key): value for key, value in found.point.items()},
    }
    return Cell(Record(stage, home, home, placement), found.point, label, nodes, gpus)


def _stage(setting: Setting, found: Intent) -> Stage:
    """What the work is. Without a config the tokens count as they are."""
    plain = [token for token in setting.request.forwarded if found.counted is None or not intent.is_override(token)]
    swept = sorted(f"{key}={text}" for key, text in found.overrides) if found.counted is None else []
    params: dict[str, Any] = {
        "command": [setting.script, *swept, *plain],
        "config": found.counted,
        "env": _stored_variables(setting.request.env, setting.environ),
        "again": setting.stamp,
    }
    return kind.load("command").stage(params, {each.name: each.ref for each in setting.request.inputs})


def _stored_variables(given: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    stored = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UserError(
                f"--env {each.partition('=')[0]!r} names no variable", "write --env NAME or --env NAME=VALUE"
            )
        if sign and SECRET.search(name):
            raise UserError(
                f"--env {name}=... looks like a secret, and its value would be stored",
                f"export it and forward it by name: --env {name}",
            )
        if sign:
            stored[name] = value
        elif name not in environ:
            raise UserError(f"--env {name} forwards a variable that is not set", f"export {name}=...")
    return stored


def _resources(setting: Setting, found: Intent, notes: list[str]) -> tuple[int, int]:
    """Nodes, and GPUs of each: flag, config, what is saved of a cluster, what its nodes have, what is present."""
    request, keys = setting.request, setting.profile.resources
    nodes = request.nodes or intent.number_at(found.known, keys.nodes, "--nodes N")
    gpus = request.gpus
    if gpus is None:
        gpus = intent.number_at(found.known, keys.gpus, "--gpus N")
    nodes, gpus, note = placing.resources(nodes, gpus, setting.defaults, on_cluster=setting.on_cluster)
    notes += [note] if note else []
    return nodes, gpus


def _how(setting: Setting, found: Intent, key: str, home: str, nodes: int, gpus: int) -> dict[str, Any]:
    """The placed params of the stage: how this attempt at the work is run."""
    path = setting.store.root / home
    words = _words(setting, home, path, nodes, gpus)
    profile = profiles.for_config(setting.profile, found.known)
    injected = injection.tokens(profile, found, words, wandb_on=not setting.wandb_off)
    swept = [profile.override.format(key=key, value=text) for key, text in found.overrides]
    chosen = injection.config_tokens(profile, setting.program.config)
    typed = injection.forwarded(profile, setting.request.forwarded)
    done = profile.done_when
    own = {"HOLDFAST_CHECKPOINTS": str(path / "checkpoints"), "HOLDFAST_LOGS": str(path / "logs")}
    return {
        "tokens": [*setting.starts, setting.program.script, *chosen, *injected, *_given(setting), *swept, *typed],
        "directory": str(setting.directory),
        "variables": {**_wandb(setting, key, home, path), **own},
        "reads": dict(setting.base.reads),
        "folders": list(FOLDERS),
        "profile": profile.model_dump(mode="json"),
        "total_steps": intent.number_at(found.known, done.steps, unset=-1),
        "total_epochs": intent.number_at(found.known, done.epochs, unset=-1),
        "code": dict(setting.code),
    }


def _given(setting: Setting) -> list[str]:
    """How the program is told where its inputs are."""
    return [setting.profile.override.format(key=each.key, value=each.path) for each in setting.request.inputs]


def _wandb(setting: Setting, key: str, home: str, path: Path) -> dict[str, str]:
    if setting.wandb_off:
        return {} if "WANDB_MODE" in setting.environ else {"WANDB_MODE": "disabled"}
    group = setting.name if setting.program.sweep else None
    run = wandb_run.script_run_id(setting.store.root, key, _generation(setting.store, key))
    return wandb.variables(home, group, str(path), run, setting.environ)


def _generation(store: Store, key: str) -> int:
    """Which result of this work comes next: what was completed, and is done again, is another W&B run."""
    try:
        endings = [claim.ending() or {} for claim in attempt.every(store.attempts(key))]
    except (DamagedFile, UnreadableFile):
        return 1
    return 1 + [ending.get("outcome") for ending in endings].count("complete")


def _words(setting: Setting, home: str, path: Path, nodes: int, gpus: int) -> dict[str, str]:
    """What a profile's injected values may name; what is empty is not injected."""
    limit = seconds(str(setting.request.time)) if setting.on_cluster else 0
    return {
        "home": str(path),
        "name": home,
        "group": setting.name if setting.program.sweep else "",
        "nodes": str(nodes),
        "gpus": str(gpus),
        "wandb": "false" if setting.wandb_off else "true",
        "must_save_by": _must_save_by(limit) if limit else "",
    }


def _must_save_by(limit: int) -> str:
    """D:H:M:S: a tenth of the time before the limit, two to fifteen minutes, is left for saving."""
    left = max(limit - min(900, max(120, limit // 10)), 60)
    return f"{left // 86400:02d}:{left // 3600 % 24:02d}:{left // 60 % 60:02d}:{left % 60:02d}"
