"""An environment of your own: a number is guessed, with a tool or in words.

    environment: {name: "examples.guess_number:GuessNumber", settings: {most: 50}}

Nothing is registered. Each object is one game; a row of the prompt set may have the `number`, otherwise the seed of the
rollout draws it.
"""

from __future__ import annotations

import random
from typing import ClassVar

from holdfast.environments import Settings
from holdfast.environments.episodes import Message, Start, Step, user
from holdfast.environments.prompt_set import Row
from holdfast.environments.tool_calls import Outcome, ToolCall, ToolEpisode, function

GUESS = function("guess", "Guess the number.", {"number": {"type": "integer"}}, ["number"])


class GuessSettings(Settings):
    """How hard it is."""

    most: int = 100


class GuessNumber(ToolEpisode):
    """Worth 1 if it is found at once, and a tenth less for each guess more."""

    name = "guess_number"
    version = 1
    Settings: ClassVar[type[Settings]] = GuessSettings

    def start(self, seed: int, row: Row) -> Start:
        self.number = int(row.get("number", random.Random(seed).randint(1, self.settings.most)))
        return Start([user(f"Guess a number from 1 to {self.settings.most}.")], [GUESS])

    def call(self, call: ToolCall) -> Outcome:
        guess = call.arguments.get("number")
        if guess == self.number:
            return Outcome("That is it.", reward=1.0, terminated=True, info={"success": True})
        if not isinstance(guess, int):
            return Outcome({"error": "`number` must be a whole number"}, actions=0)
        return Outcome("It is more." if guess < self.number else "It is less.", reward=-0.1)

    def said(self, message: Message) -> Step:
        return Step([user("Use the tool.")], actions=0)
