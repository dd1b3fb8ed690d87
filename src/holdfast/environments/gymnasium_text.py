"""Gymnasium environments as chats: the observation as a text, an action as a tag.

https://gymnasium.farama.org. Any environment whose actions are `Discrete` or `Text`: a text observation is told as it
is; otherwise what it renders as `ansi`, where it can, and after all the observation itself. `<action>2</action>`, or a
name from `actions`, is one step; several in one message are taken in their order. A message without an action is
answered, and costs nothing but a turn.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any, ClassVar

from pydantic import Field

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments import Settings
from holdfast.environments.episodes import Episode, EpisodeError, Episodes, Message, Start, Step, user
from holdfast.environments.prompt_set import OwnPrompts, Prompts, Row

TAG = re.compile(r"<action>\s*(.*?)\s*</action>", re.DOTALL)
COLOURED = re.compile(r"\x1b\[[\d;]*m(.*?)\x1b\[0m")
ESCAPE = re.compile(r"\x1b\[[\d;]*m")
INSTALL = "pip install 'holdfast[environments]'"


class GymnasiumSettings(Settings):
    """Which environment."""

    id: str
    """As `gymnasium.make` has it, `FrozenLake-v1` or `module:Name-v0`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What `gymnasium.make` is given."""
    actions: tuple[str, ...] = ()
    """Names of the discrete actions, in their order."""
    instructions: str = ""
    """What the model is told beside how to act."""
    count: int | None = Field(100, ge=1)
    """Prompts, each with a seed of its own; null, where a prompt set has rows with `seed` and `options`."""
    library: str | None = None
    """Gymnasium's version, when the work was planned."""


class GymnasiumText(Episodes):
    name = "gymnasium"
    turns = 50
    Settings: ClassVar[type[Settings]] = GymnasiumSettings

    def choice(self) -> dict[str, Any]:
        return {name: value for name, value in self.resolved().items() if name != "count"}

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "library": self.settings.library or _version()}

    def prompts(self) -> Prompts | None:
        if self.settings.count is None:
            return None
        rows = [{"id": f"{self.settings.id}-{number}", "seed": number} for number in range(self.settings.count)]
        return OwnPrompts({str(row["id"]): row for row in rows})

    def new(self) -> Episode:
        return _Game(self.settings)


class _Game(Episode):
    is_blocking = True

    def start(self, seed: int, row: Row) -> Start:
        """
        Raises:
            UserError: there is no such environment, or its actions cannot be written.
        """
        import gymnasium

        chosen = self.settings
        options = {**chosen.options, **(row.get("options") or {})}
        try:
            self._game = _make(gymnasium, chosen.id, options)
        except (gymnasium.error.Error, ImportError, TypeError) as error:
            raise UserError(f"gymnasium.make({chosen.id!r}) fails: {error}", "correct `id` or `options`") from None
        self._is_discrete = isinstance(self._game.action_space, gymnasium.spaces.Discrete)
        if not self._is_discrete and not isinstance(self._game.action_space, gymnasium.spaces.Text):
            raise UserError(
                f"{chosen.id} has actions {self._game.action_space}, expected Discrete or Text", "take another one"
            )
        self._error = gymnasium.error.Error
        observation, _ = self._game.reset(seed=row.get("seed", seed))
        words = " ".join(filter(None, [chosen.instructions, self._how()]))
        return Start([{"role": "system", "content": words}, user(self._shown(observation))])

    def step(self, message: Message) -> Step:
        said = TAG.findall(message.get("content") or "")
        actions = [self._action(each) for each in said]
        if not actions or None in actions:
            return Step([user(f"There was no action in that. {self._how()}")], actions=0)
        reward, taken, info = 0.0, 0, {}
        terminated = truncated = False
        observation: Any = None
        for action in actions:
            try:
                observation, worth, terminated, truncated, info = self._game.step(action)
            except self._error as error:
                raise EpisodeError("env_error", f"{self.settings.id}: {error}") from error
            reward += float(worth)
            taken += 1
            if terminated or truncated:
                break
        told = [user(self._shown(observation))]
        return Step(told, reward, bool(terminated), bool(truncated), {"observed": _plain(info)}, taken)

    def close(self) -> None:
        if hasattr(self, "_game"):
            self._game.close()

    def _action(self, said: str) -> Any:
        """What the environment takes, or None if that is no action."""
        if not self._is_discrete:
            return said if self._game.action_space.contains(said) else None
        space: Any = self._game.action_space
        names = [name.lower() for name in self.settings.actions]
        if said.lower() in names:
            return int(space.start) + names.index(said.lower())
        number = int(said) if re.fullmatch(r"-?\d{1,9}", said) else None
        return number if number is not None and space.contains(number) else None

    def _how(self) -> str:
        if not self._is_discrete:
            return "Answer with an action as <action>...</action>."
        first, count = int(self._game.action_space.start), int(self._game.action_space.n)
        choices = self.settings.actions or [str(first + number) for number in range(count)]
        return f"Answer with actions as <action>{choices[0]}</action>; there are {', '.join(choices)}."

    def _shown(self, observation: Any) -> str:
        if isinstance(observation, str):
            return observation
        shown = self._game.render() if self._game.render_mode == "ansi" else None
        return _without_colours(str(shown)) if shown else str(observation)


def _make(gymnasium: Any, name: str, options: dict[str, Any]) -> Any:
    modes = gymnasium.spec(name).kwargs.get("render_mode", options.get("render_mode"))
    if modes is None and "ansi" in _modes(gymnasium, name):
        options = {**options, "render_mode": "ansi"}
    return gymnasium.make(name, **options)


def _modes(gymnasium: Any, name: str) -> list[str]:
    """The ways in which an environment can be rendered, as far as it says so."""
    entry = gymnasium.spec(name).entry_point
    found = gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
    return list(getattr(found, "metadata", {}).get("render_modes", ()))


def _without_colours(text: str) -> str:
    """What stands out by its colour in a terminal stands in brackets."""
    return ESCAPE.sub("", COLOURED.sub(r"[\1]", text))


def _plain(info: Any) -> Any:
    """What JSON can say of it."""
    import json

    return json.loads(json.dumps(info, default=str))


def _version() -> str:
    try:
        return metadata.version("gymnasium")
    except metadata.PackageNotFoundError:
        raise ConfigError("environment gymnasium needs gymnasium, which is not there", INSTALL) from None
