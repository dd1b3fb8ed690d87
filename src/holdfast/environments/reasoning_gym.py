"""reasoning-gym: more than a hundred kinds of problems, generated from a seed, each with its own way of grading.

https://github.com/open-thought/reasoning-gym. A prompt's id is task, seed and number, so that a larger `count` contains
the smaller one. The problems are those of one version of the library, and another one is refused.
"""

from __future__ import annotations

import re
from functools import cached_property
from importlib import metadata
from typing import Any, ClassVar

from pydantic import Field

from holdfast.core import near
from holdfast.core.errors import ConfigError
from holdfast.environments import Environment, Grade, Prompt, Settings

PACKAGE = "reasoning-gym"
INSTALL = "pip install 'holdfast[environments]'"
MIXED = ("composite",)
"""Tasks that are made of others, and nothing without options."""
ANSWER = re.compile(r"<answer>\s?(.*?)\s?</answer>", re.DOTALL)
SYSTEM = "Think step by step. Then give the answer alone between <answer> and </answer>, in the form that is asked for."


class ReasoningGymSettings(Settings):
    """Which problems."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of the library, `chain_sum` for example; or `all`."""
    count: int = Field(100, ge=1)
    """Of each task."""
    seed: int = 0
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task, what its config has: `{chain_sum: {min_terms: 4}}`."""
    system_prompt: str = SYSTEM
    library: str | None = None
    """Its version, when the work was planned."""


class ReasoningGym(Environment):
    """A whole score counts as solved; the reward is the score, from 0 to 1."""

    name = "reasoning_gym"
    max_tokens = 2048
    is_blocking = True
    Settings: ClassVar[type[Settings]] = ReasoningGymSettings

    def identity(self) -> dict[str, Any]:
        chosen = self.settings
        return {
            **super().identity(),
            "library": chosen.library or _version(),
            "seed": chosen.seed,
            "options": chosen.options,
            "system_prompt": chosen.system_prompt,
        }

    def choice(self) -> dict[str, Any]:
        return {"tasks": list(self.settings.tasks), "count": self.settings.count}

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "library": self.settings.library or _version()}

    def prompts(self) -> list[Prompt]:
        return [self._prompt(task, number) for task in self._datasets for number in range(self.settings.count)]

    def reward(self, prompt_id: str, completion: str) -> float:
        return self.grade(prompt_id, completion).reward

    def grade(self, prompt_id: str, completion: str) -> Grade:
        task, _, number = prompt_id.rpartition("-")
        found = ANSWER.findall(completion)
        said = found[-1].strip() if found else None
        dataset = self._datasets[task.rpartition("-")[0]]
        return Grade(float(dataset.score_answer(said, dataset[int(number)])), said)

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        there = _version()
        if self.settings.library not in (None, there):
            raise ConfigError(
                f"{PACKAGE} is {there}, and the work was planned with {self.settings.library}: problems may be others",
                f"pip install {PACKAGE}=={self.settings.library}",
            )
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

        every = [task for task in sorted(DATASETS) if task not in MIXED or task in self.settings.options]
        tasks = every if self.settings.tasks == ("all",) else self.settings.tasks
        return {task: self._make(reasoning_gym, task, DATASETS) for task in tasks}

    def _make(self, library: Any, task: str, known: Any) -> Any:
        if task not in known:
            close = near.name(task, known)
            raise ConfigError(
                f"{PACKAGE} has no task {task!r}",
                f"did you mean `{close}`?" if close else f"it has {near.listed(sorted(known))}",
            )
        options = {"size": self.settings.count, "seed": self.settings.seed, **self.settings.options.get(task, {})}
        try:
            return library.create_dataset(task, **options)
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"{PACKAGE} refuses the options of {task}: {error}", "correct `options`") from None

    def _prompt(self, task: str, number: int) -> Prompt:
        text = str(self._datasets[task][number]["question"])
        system = {"role": "system", "content": self.settings.system_prompt}
        messages = ({"role": "user", "content": text},)
        return Prompt(f"{task}-{self.settings.seed}-{number}", text, (system, *messages))


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"environment reasoning_gym needs {PACKAGE}, which is not there", INSTALL) from None
