"""Columns to arrays in the order of prompt and repeat: one row for each rollout, the first one where there are two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from holdfast.evaluation.analysis.formats import CUT, CUT_WORDS
from holdfast.evaluation.analysis.reading import Table

Array = Any
"""A numpy array; numpy is loaded late."""
STEP = 1 << 18
"""Rows taken at a time, where whole columns of intermediate numbers would fill the memory."""


@dataclass(frozen=True)
class Rollouts:
    """Arrays over rollouts, sorted by prompt and repeat. Whole numbers that were not said are -1, seconds NaN.

    `ids` are in the order in which prompts came, `prompt` is an index into them. `by` has for each field its values and
    the number of each rollout's. `duplicates` and `beyond` are rows that do not count: of a repeat that was there
    before, and of one that nobody asked for.
    """

    ids: list[str]
    prompt: Array
    repeat: Array
    reward: Array
    success: Array
    knows_success: int
    truncated: Array
    retried: Array
    finish: Array
    finishes: list[str]
    tools: Array
    steps: Array
    turns: Array
    prompt_tokens: Array
    completion_tokens: Array
    seconds: Array
    answers: Array | None
    by: dict[str, tuple[list[str], Array]]
    duplicates: int
    beyond: int

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def counts(self) -> Array:
        """Rollouts of each prompt."""
        return self.sums(None)

    def sums(self, values: Array | None, chosen: Array | None = None) -> Array:
        """For each prompt the sum of values by rollout, or how many there are; of the chosen ones alone."""
        import numpy

        size = len(self.ids)
        found = numpy.zeros(size, dtype=numpy.int64 if values is None else float)
        for start in range(0, len(self), STEP):  # bincount makes wide copies of what it is given
            rows = slice(start, start + STEP)
            prompt, weights = self.prompt[rows], None if values is None else values[rows]
            if chosen is not None:
                prompt = prompt[chosen[rows]]
                weights = None if weights is None else weights[chosen[rows]]
            found += numpy.bincount(prompt, weights=weights, minlength=size)
        return found

    @property
    def cut(self) -> Array:
        """Whether each response ended at the limit of tokens."""
        return self.finish == (self.finishes.index(CUT) if CUT in self.finishes else -2)

    def means(self, values: Array, chosen: Array | None = None) -> tuple[Array, Array]:
        """(prompts that have any, the mean of each) of values by rollout, of the chosen ones alone."""
        import numpy

        counts = self.counts if chosen is None else self.sums(None, chosen)
        sums = self.sums(values, chosen)
        present = numpy.flatnonzero(counts)
        return present, sums[present] / counts[present]


def group(table: Table, repeats: int | None = None) -> Rollouts:
    """The rollouts of a table, which is used up. `repeats`: no more of a prompt count.

    Of rows of the same prompt and repeat the one that was finished first counts, as everywhere; where nobody said when,
    the one that was read first.
    """
    order, duplicates, beyond = _order(table, repeats)
    take = _taker(order)
    kinds, standing = list(table.standings), take(table.standing.as_array())
    reward, prompt, repeat = take(table.reward.as_array()), take(table.prompt.as_array()), take(table.repeat.as_array())
    known = _flag(kinds, standing, lambda kind: kind[0] is not None)
    success = _flag(kinds, standing, lambda kind: bool(kind[0])) | (~known & (reward >= 1.0))
    retried = _flag(kinds, standing, lambda kind: kind[2] is not None and kind[2] > 1)
    finishes, finish = _finishes(table, take)
    found = Rollouts(
        ids=list(table.ids),
        prompt=prompt,
        repeat=repeat,
        reward=reward,
        success=success,
        knows_success=int(known.sum()),
        truncated=_flag(kinds, standing, lambda kind: bool(kind[1])),
        retried=retried | _failed_before(table, prompt, repeat),
        finish=finish,
        finishes=finishes,
        tools=_signed(take(table.tools.as_array())),
        steps=_signed(take(table.steps.as_array())),
        turns=_signed(take(table.turns.as_array())),
        prompt_tokens=_signed(take(table.prompt_tokens.as_array())),
        completion_tokens=_signed(take(table.completion_tokens.as_array())),
        seconds=take(table.seconds.as_array()),
        answers=None if table.answers is None else take(_frombuffer(table.answers)),
        by=_by(table, take),
        duplicates=duplicates,
        beyond=beyond,
    )
    table.release()
    return found


def _order(table: Table, repeats: int | None) -> tuple[Array | None, int, int]:
    """The rows that count, in order; None where that is all of them as they came."""
    import numpy

    prompt, repeat = table.prompt.as_array(), table.repeat.as_array()
    beyond = 0 if repeats is None else int((repeat >= repeats).sum())
    if not beyond and _is_ordered(prompt, repeat):
        return None, 0, 0
    if table.keeps_finished:
        order = numpy.lexsort((table.finished.as_array(), repeat, prompt))
    else:
        order = numpy.lexsort((repeat, prompt))
    first = numpy.ones(len(order), dtype=bool)
    first[1:] = (numpy.diff(prompt[order].astype(numpy.int64)) != 0) | (
        numpy.diff(repeat[order].astype(numpy.int64)) != 0
    )
    duplicates = len(order) - int(first.sum())
    wanted = first if repeats is None else first & (repeat[order] < repeats)
    return order[wanted], duplicates, int((first & ~wanted).sum())


def _is_ordered(prompt: Array, repeat: Array) -> bool:
    """Whether every row comes after the one before; in steps, to need no memory."""
    for start in range(0, len(prompt) - 1, STEP):
        ahead = slice(start + 1, start + 1 + STEP)
        behind = slice(start, start + len(prompt[ahead]))
        later = prompt[ahead] > prompt[behind]
        if not (later | ((prompt[ahead] == prompt[behind]) & (repeat[ahead] > repeat[behind]))).all():
            return False
    return True


def _taker(order: Array | None) -> Callable[[Array], Array]:
    return (lambda column: column) if order is None else (lambda column: column[order])


def _frombuffer(data: Any) -> Array:
    import numpy

    return numpy.frombuffer(data, dtype=numpy.int64)


def _flag(kinds: Sequence[Any], standing: Array, holds: Callable[[Any], bool]) -> Array:
    import numpy

    return numpy.array([holds(kind) for kind in kinds] or [False], dtype=bool)[standing]


def _signed(column: Array) -> Array:
    """One more than the values, to the values, in the narrowest type that has room for -1."""
    import numpy

    most = int(column.max(initial=0))
    narrow = next(kind for kind in ("int8", "int16", "int32", "int64") if most <= numpy.iinfo(kind).max)
    values = column.astype(narrow)
    values -= 1
    return values


def _finishes(table: Table, take: Callable[[Array], Array]) -> tuple[list[str], Array]:
    """The words by which responses ended, and the number of each rollout's, -1 where nobody said; every engine's word
    for the limit of tokens is `length`.
    """
    import numpy

    words: list[str] = []
    numbers = []
    for said in table.finishes:
        word = CUT if said in CUT_WORDS else said
        if word is not None and word not in words:
            words.append(word)
        numbers.append(-1 if word is None else words.index(word))
    kind = "int16" if len(words) < 2**15 else "int32"
    return words, numpy.array(numbers or [-1], dtype=kind)[take(table.finish.as_array())]


def _failed_before(table: Table, prompt: Array, repeat: Array) -> Array:
    """Whether each rollout has failed before it went well."""
    import numpy

    if not len(table.failed_prompt):
        return numpy.zeros(len(prompt), dtype=bool)
    failed = _pairs(table.failed_prompt.as_array(), table.failed_repeat.as_array())
    return numpy.isin(_pairs(prompt, repeat), failed)


def _pairs(prompt: Array, repeat: Array) -> Array:
    """One number for each (prompt, repeat). A repeat beyond 2^32 is nobody's."""
    import numpy

    return (prompt.astype(numpy.uint64) << numpy.uint64(32)) | (repeat.astype(numpy.uint64) & numpy.uint64(2**32 - 1))


def _by(table: Table, take: Callable[[Array], Array]) -> dict[str, tuple[list[str], Array]]:
    """For each field its values, and the number of each rollout's. Values that are written differently and say the same
    are one.
    """
    import numpy

    found = {}
    for name, spelled, column in zip(table.fields.names, table.fields.values(), table.by, strict=True):
        values = list(dict.fromkeys(spelled))
        number = {value: place for place, value in enumerate(values)}
        numbers = numpy.array([number[value] for value in spelled] or [0], dtype="int32")
        found[name] = (values, numbers[take(column.as_array())])
    return found
