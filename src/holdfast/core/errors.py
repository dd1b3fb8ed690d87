"""The errors of Holdfast.

    HoldfastError
    |-- UserError            the user's mistake: message, blank line, `hint:`; exit code 2, no traceback
    |   |-- ConfigError      a file or an override that a person wrote is wrong
    |   |-- NameTaken        a home that belongs to other work
    |   |-- DamagedFile      a file of ours that does not say what it must
    |   `-- NewerSchema      a file written by a later version: shown, never consumed or overwritten
    |-- Held                 somebody else has the claim
    |-- Stopped              asked to stop, state saved: the stage stays owed
    `-- NotComplete          an input that is not (or no longer) there

Say what, where, both values, and in the hint the next command. This file imports only the standard library, because the
frozen supervisor carries it.
"""

from __future__ import annotations


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


class NewerSchema(UserError):
    """A file was written by a later version of Holdfast."""


class Held(HoldfastError):
    """The stage is claimed by an attempt that is alive, or that nobody can prove dead."""


class Stopped(HoldfastError):
    """The work was asked to stop, saved its state, and is still owed."""


class NotComplete(HoldfastError):
    """An input of this stage is not complete."""
