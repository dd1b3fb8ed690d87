"""The errors of Holdfast.

    HoldfastError
    |-- UserError            the user's mistake: message, blank line, `hint:`; exit code 2, no traceback
    |   |-- ConfigError      a file or an override that a person wrote is wrong
    |   |-- NameTaken        a home that belongs to other work
    |   |-- DamagedFile      a file of ours that does not say what it must
    |   `-- UnreadableFile   a file of ours that may well be sound, but not for us: shown, never consumed or overwritten
    |       `-- NewerSchema  it was written by a later version
    |-- Held                 somebody else has the claim
    |-- Stopped              asked to stop, state saved: the stage stays owed
    `-- NotComplete          an input that is not (or no longer) there

Say what, where, both values, and in the hint the next command. This file imports only the standard library, because the
frozen supervisor carries it.
"""

from __future__ import annotations

from collections.abc import Sequence


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises on purpose."""


class UserError(HoldfastError):
    """A mistake that the person at the prompt can mend.

    `hint` is the way out, usually a command.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(UserError):
    """A config, plan, sweep or override that says something impossible."""


class NameTaken(UserError):
    """The home of this name holds other work."""


class DamagedFile(UserError):
    """A file of ours is torn, truncated or foreign."""


class UnreadableFile(UserError):
    """A file of ours that we may not read. Nothing may be concluded from it, neither that it is sound nor that it is
    not.
    """


class NewerSchema(UnreadableFile):
    """A file was written by a later version of Holdfast."""


class Held(HoldfastError):
    """The stage is claimed by an attempt that is alive, or that nobody can prove dead."""


class Stopped(HoldfastError):
    """The work was asked to stop, saved its state, and is still owed."""


class NotComplete(HoldfastError):
    """An input of this stage is not complete."""


def unknown_key(key: str, known: Sequence[str], where: str) -> ConfigError:
    """The error for a misspelt key, with the nearest known one."""
    import difflib

    near = difflib.get_close_matches(key.rpartition(".")[2], known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(sorted(known))}"
    return ConfigError(f"{where} has no `{key}`", hint)
