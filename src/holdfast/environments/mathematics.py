"""Mathematics with a verifier: a data set whose answers math-verify compares, as episodes of one turn.

`{name: math, data: math500, count: 100}`; `data` is what a data set calls its `name`, and the other settings are those
of `dataset`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from holdfast.environments import Settings
from holdfast.environments.dataset import Dataset, DatasetSettings
from holdfast.environments.one_turn import OneTurn


class MathematicsSettings(Settings):
    """Which problems."""

    data: str = "math500"
    """A preset, a name of the hub, or a local file."""
    split: str | None = None
    problem_key: str | None = None
    solution_key: str | None = None
    prompt: str | None = None
    system_prompt: str | None = None
    count: int | None = Field(None, ge=1)
    seed: int | None = None
    revision: str | None = None
    digest: str | None = None


class Mathematics(OneTurn):
    name = "math"
    Settings: ClassVar[type[Settings]] = MathematicsSettings

    def __init__(self, settings: MathematicsSettings) -> None:
        said = settings.model_dump(exclude={"data"}, exclude_none=True)
        super().__init__(Dataset(DatasetSettings(name=settings.data, verifier="math", **said)))
        self.settings = settings

    def resolved(self) -> dict[str, Any]:
        found = self.environment.resolved()
        kept = {name: found[name] for name in MathematicsSettings.model_fields if name in found}
        return {**kept, "data": found["name"]}
