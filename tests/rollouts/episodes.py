"""Episodes as a user would write them, for tests of whole collections."""

from __future__ import annotations

from holdfast.environments.episodes import Episode, EpisodeError, Message, Start, Step, user
from holdfast.environments.prompt_set import Row


class Poison(Episode):
    """Worth its row's `worth`; a row that says `poison` fails the environment."""

    name = "poison"

    def start(self, seed: int, row: Row) -> Start:
        self._row = row
        return Start([user(f"What is {row.get('number', 1)} + 1?")])

    def step(self, message: Message) -> Step:
        if self._row.get("poison"):
            raise EpisodeError("env_error", "this one always fails")
        return Step(reward=float(self._row.get("worth", 1.0)), terminated=True)


class Corrected(Poison):
    """As `Poison`, which was wrong about the rewards."""

    def step(self, message: Message) -> Step:
        step = super().step(message)
        return Step(reward=10 * step.reward, terminated=True)
