"""Data sets as environments: those of the hub, and local files.

What a reward depends on is the identity: the contents (a commit of the hub, or the digest of local files, never their
path), the columns, the templates, the verifier. Which of the rows are asked is the choice, and a larger choice contains
the smaller. Nothing is read before it is needed, but the local files' digest, which planning needs.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from holdfast.core import near
from holdfast.core.errors import ConfigError, UserError
from holdfast.core.stage import canonical
from holdfast.environments import Environment, Grade, Prompt, Settings, hub, sources, templates
from holdfast.environments.presets import PRESETS, preset_of
from holdfast.environments.sources import Row
from holdfast.verifiers import load_verifier

ID_COLUMNS = ("id", "prompt_id", "unique_id")


class DatasetSettings(Settings):
    """Where the rows are, what they mean, how they are put, and which of them are asked."""

    name: str
    """A preset (`math500`, `gsm8k`, `AIME2024`), a name of the hub, or a local file or directory."""
    subset: str | tuple[str, ...] | None = None
    """Of a data set of the hub; several are put one after another."""
    split: str | None = None
    revision: str | None = None
    """A branch, tag or commit of the hub; planning makes it a commit."""
    problem_key: str | None = None
    """The column with the problem, a text or the messages of a chat (`problem`); `a.b` is b in a."""
    solution_key: str | None = None
    """The column that the verifier is given (`answer`)."""
    choices: str | tuple[str, ...] | None = None
    """The column with the choices; or the columns of the choices, the right one first, which are then shuffled."""
    file_format: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = None
    """Of local files whose name does not say it."""
    verifier: str | None = None
    """`math` (by default), gsm8k, multiple_choice, exact, or `package.module:function`."""
    prompt: str | None = None
    """The template, with `{problem}` in it."""
    system_prompt: str | None = None
    prompt_file: str | None = None
    """The template's file; its text is part of the identity."""
    system_prompt_file: str | None = None
    format: templates.Format = "chat"
    """Messages for a chat template, or raw text that the model goes on with."""
    count: int | None = Field(None, ge=1)
    """How many of the rows."""
    fraction: float | None = Field(None, gt=0, le=1)
    """How large a part of them."""
    seed: int | None = None
    """Draws which, and their order; None takes the first."""
    digest: str | None = None
    """Of local contents, when the work was planned."""


class Dataset(Environment):
    name = "dataset"
    max_tokens = 2048
    Settings: ClassVar[type[Settings]] = DatasetSettings

    def __init__(self, settings: DatasetSettings) -> None:
        if settings.count and settings.fraction:
            raise ConfigError("environment dataset: both `count` and `fraction` are given", "give one of them")
        super().__init__(_with_preset(settings))
        chosen = self.settings
        self._template = _text_of(chosen.prompt, chosen.prompt_file, "prompt") or templates.PLACE
        self._system = _text_of(chosen.system_prompt, chosen.system_prompt_file, "system_prompt") or ""
        templates.fill(self._template, "")  # says what is wrong with it
        self._verifier = load_verifier(chosen.verifier or "math")

    @property
    def verifier(self) -> str:
        return self._verifier.name

    @cached_property
    def _local(self) -> list[Path] | None:
        """The files of local data, or None for a data set of the hub."""
        path = Path(self.settings.name).expanduser()
        if path.exists() or path.suffix in sources.FORMATS or self.settings.name.startswith(("/", "./", "../", "~")):
            return sources.data_files(path, self.settings.split)
        if not hub.HUB_NAME.fullmatch(self.settings.name) or "/" not in self.settings.name:
            close = near.name(self.settings.name.lower(), PRESETS)
            raise ConfigError(
                f"there is no data set `{self.settings.name}`: no preset, no local file, no owner/name of the hub",
                f"did you mean `{close}`?" if close else f"presets: {', '.join(PRESETS)}",
            )
        return None

    @cached_property
    def _source(self) -> dict[str, Any]:
        chosen = self.settings
        if self._local is None:
            commit = hub.find_commit(chosen.name, chosen.revision)
            where = {"name": chosen.name, "subset": chosen.subset, "split": chosen.split}
            return {**where, "revision": commit or chosen.revision or "main", "pinned": commit is not None}
        form = {"format": chosen.file_format} if chosen.file_format else {}
        split = {"split": chosen.split} if self._local[0].suffix == ".json" and chosen.split else {}
        return {"digest": chosen.digest or sources.digest(self._local), **form, **split}

    def identity(self) -> dict[str, Any]:
        """As the base says; `pinned` is false where nobody could say which commit of the hub a name means."""
        columns = {"problem_key": self._problem_key, "solution_key": self._solution_key}
        columns |= {"choices": self.settings.choices} if self.settings.choices else {}
        return json.loads(  # type: ignore[no-any-return]
            canonical(
                {
                    **super().identity(),
                    "dataset": {**self._source, **columns},
                    "prompt": {
                        "format": self.settings.format,
                        "template": _digest(self._template),
                        "system": _digest(self._system) if self._system else None,
                    },
                    "verifier": {"name": self._verifier.name, "version": self._verifier.version},
                }
            )
        )

    def choice(self) -> dict[str, Any]:
        return {key: getattr(self.settings, key) for key in ("count", "fraction", "seed")}

    def resolved(self) -> dict[str, Any]:
        found = {**super().resolved(), "prompt": self._template, "system_prompt": self._system or None}
        found |= {"prompt_file": None, "system_prompt_file": None, "verifier": self._verifier.name}
        if self._local is not None:
            name = str(Path(self.settings.name).expanduser().absolute())
            return {**found, "name": name, "digest": self._source["digest"]}
        return {**found, "revision": self._source["revision"]}

    @property
    def _problem_key(self) -> str:
        return str(self.settings.problem_key or "problem")

    @property
    def _solution_key(self) -> str:
        return str(self.settings.solution_key or "answer")

    @cached_property
    def _rows(self) -> list[Row]:
        chosen = self.settings
        if self._local is not None:
            rows = sources.read(self._local, chosen.file_format, chosen.split, chosen.digest)
        else:
            commit = self._source["revision"] if self._source["pinned"] else None
            subsets = chosen.subset if isinstance(chosen.subset, tuple) else (chosen.subset,)
            rows = [row for each in subsets for row in hub.read(chosen.name, each, chosen.split, commit)]
        if not rows:
            raise UserError(f"data set {chosen.name} has no rows", "give one that has some")
        return rows

    @cached_property
    def _problems(self) -> dict[str, tuple[Prompt, Any]]:
        """Prompt and solution of all rows, by prompt id."""
        found = [self._problem(row) for row in self._rows]
        ids = _ids(self._rows, found)
        return {
            each: (templates.put(each, problem, self._template, self._system, self.settings.format), solution)
            for each, (problem, solution) in zip(ids, found, strict=True)
        }

    def _problem(self, row: Row) -> tuple[str | list[dict[str, str]], Any]:
        problem = _value(row, self._problem_key, "problem_key")
        if not (isinstance(problem, str) and problem) and not _is_chat(problem):
            raise UserError(
                f"{row.where}: {self._problem_key} is {str(problem)[:60]!r}, expected a text or messages",
                "choose the column with `problem_key`",
            )
        chosen = self.settings.choices
        if isinstance(chosen, tuple):
            options, letter = templates.shuffled(str(problem), [str(_value(row, key, "choices")) for key in chosen])
            return templates.with_choices(str(problem), options), letter
        solution = _plain(_value(row, self._solution_key, "solution_key"))
        if chosen:
            options = templates.list_choices(_value(row, chosen, "choices"))
            return templates.with_choices(str(problem), options), solution
        return problem, solution

    @cached_property
    def _chosen(self) -> list[Prompt]:
        ids = list(self._problems)
        if self.settings.seed is not None:
            ids.sort(key=lambda each: _digest(f"{self.settings.seed}:{each}"))
        fraction = self.settings.fraction
        count = max(1, round(fraction * len(ids))) if fraction else self.settings.count
        return [self._problems[each][0] for each in ids[:count]]

    def prompts(self) -> Sequence[Prompt]:
        return self._chosen

    def solution(self, prompt_id: str) -> Any:
        return self._problems[prompt_id][1]

    def reward(self, prompt_id: str, completion: str) -> float:
        return self.grade(prompt_id, completion).reward

    def grade(self, prompt_id: str, completion: str) -> Grade:
        """In this process, where a verifier that hangs is not ended: an evaluation asks a `VerifierPool`."""
        return self._verifier.grade(completion, self.solution(prompt_id))


def _with_preset(settings: DatasetSettings) -> DatasetSettings:
    """The settings, with what the name stands for where nobody said otherwise."""
    if Path(settings.name).expanduser().exists() and "/" in settings.name:
        return settings
    preset = {
        key: tuple(value) if isinstance(value, list) else value for key, value in preset_of(settings.name).items()
    }
    if settings.prompt_file:
        preset.pop("prompt", None)
    unsaid = {key for key in preset if key == "name" or getattr(settings, key) is None}
    return settings.model_copy(update={key: preset[key] for key in unsaid})


def _text_of(text: str | None, file: str | None, what: str) -> str | None:
    """A template, from the setting or its file.

    Raises:
        ConfigError: both are given, or the file cannot be read.
    """
    if file is None:
        return text
    if text is not None:
        raise ConfigError(f"environment dataset: both `{what}` and `{what}_file` are given", "give one of them")
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        close = near.path(Path(file))
        raise ConfigError(
            f"{what}_file cannot be read: {Path(file).absolute()}: {error}",
            f"did you mean `{close}`?" if close else f"write the text as `{what}`",
        ) from None


def _value(row: Row, key: str, setting: str) -> Any:
    """A column of a row; `a.b` is b in a, where there is no column of that name.

    Raises:
        UserError: there is none, and which are there.
    """
    if key in row.values:
        return row.values[key]
    value: Any = row.values
    for part in key.split("."):
        if not (isinstance(value, Mapping) and part in value):
            close = near.name(key, list(map(str, row.values)), 0.5)
            there = near.listed(map(str, row.values))
            raise UserError(
                f"{row.where} has no `{key}`: it has {there}",
                f"did you mean `{setting}: {close}`?" if close else f"choose the column with `{setting}`",
            )
        value = value[part]
    return value


def _is_chat(problem: Any) -> bool:
    return (
        isinstance(problem, list)
        and bool(problem)
        and all(
            isinstance(each, dict) and isinstance(each.get("content"), str) and isinstance(each.get("role"), str)
            for each in problem
        )
    )


def _plain(value: Any) -> Any:
    """What JSON can say of a value; the rest (dates, decimals) as text."""
    return json.loads(json.dumps(value, default=str))


def _ids(rows: Sequence[Row], problems: Sequence[tuple[Any, Any]]) -> list[str]:
    """The rows' own ids if they have unique ones; otherwise digests of what is asked, numbered where that repeats."""
    for column in ID_COLUMNS:
        if not all(row.values.get(column) not in (None, "") for row in rows):
            continue
        own = [str(row.values[column]) for row in rows]
        repeated = [each for each, times in Counter(own).items() if times > 1]
        if not repeated:
            return own
        warnings.warn(
            f"`{column}` is not unique, {len(repeated)} values repeat, such as {repeated[0]!r}: "
            "prompts are named by their contents",
            stacklevel=2,
        )
    seen: Counter[str] = Counter()
    found = []
    for problem in problems:
        name = _digest(canonical([*problem]).decode())
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
