"""What a person asks of `holdfast evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from holdfast.core.errors import ConfigError, UserError
from holdfast.pipelines.conversion import Wish
from holdfast.pipelines.launch import request as launches
from holdfast.pipelines.launch.request import config_file
from holdfast.sweeps import space
from holdfast.sweeps.space import Sweep

DEFAULT_NAME = "eval"
DEFAULT_TIME = "2:0:0"


@dataclass(frozen=True)
class Request:
    """One command line. `placed` has the flags that `launch` has, too: nodes, GPUs, name, what SLURM is told.

    `checkpoint` is converted first; `hf_path` is where the result is wanted, or with `skip_conversion` where it is.
    """

    placed: launches.Request = field(default_factory=launches.Request)
    checkpoint: Path | None = None
    checkpoint_config: Path | None = None
    hf_path: Path | None = None
    skip_conversion: bool = False
    force_conversion: bool = False
    engine: str | None = None
    url: str | None = None
    accept_missing: int = 0

    @property
    def tokens(self) -> tuple[str, ...]:
        """The overrides, with the flags that stand for one first: what was typed as an override wins."""
        flags = {"generation.backend": self.engine, "generation.url": self.url}
        return (*(f"{key}={value}" for key, value in flags.items() if value), *self.placed.tokens)


@dataclass(frozen=True)
class Wanted:
    """The config that all points share, and the sweep over it."""

    config: str | None
    sweep: Sweep | None


def wanted(request: Request) -> Wanted:
    """Config and sweep, of which command line and sweep file may each name the config.

    Raises:
        UserError: they contradict each other, or what no evaluation has is given.
    """
    placed = request.placed
    sweep = space.read(Path(placed.sweep)) if placed.sweep else None
    if sweep and sweep.script:
        raise ConfigError(
            f"sweep {sweep.where} has script_path, and an evaluation runs no script",
            "leave it out, or launch the script: holdfast launch --sweep " + str(placed.sweep),
        )
    config = config_file(placed, sweep)
    if placed.behind:
        raise UserError(
            f"nothing takes what stands behind --: {placed.behind[0]}", "only --runner nemo-rl passes it on"
        )
    return Wanted(config, sweep)


def wish(request: Request) -> Wish | None:
    """The conversion that is asked for, None without a checkpoint.

    Raises:
        UserError: a flag of conversions without a checkpoint.
    """
    if request.checkpoint is None:
        flags = {
            "--dcp-config": request.checkpoint_config,
            "--force-conversion": request.force_conversion,
            "--hf-ckpt-path": request.hf_path and not request.skip_conversion,
        }
        for flag, given in flags.items():
            if given:
                raise UserError(f"{flag} without --dcp-ckpt-path", "say which checkpoint: --dcp-ckpt-path DIR")
        if request.hf_path is None:
            return None
    if request.skip_conversion and request.force_conversion:
        raise UserError("--skip-conversion and --force-conversion contradict each other", "give one of them")
    return Wish(
        checkpoint=request.checkpoint or request.hf_path or Path(),
        config=request.checkpoint_config,
        out=request.hf_path,
        skip=request.skip_conversion,
        force=request.force_conversion,
    )
