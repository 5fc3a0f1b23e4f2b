"""How commands end: exit codes with a meaning, and one place where errors become messages."""

import functools
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, ParamSpec, TypeVar

import typer

__all__ = ["ExitCode", "fail", "guarded"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ExitCode(IntEnum):
    """What an exit status means, for every command."""

    OK = 0
    """Done, and the answer is yes."""
    NO = 1
    """Done, and the answer is no: a policy has problems, a fragment or proof does not hold, a target was missed."""
    BAD_INPUT = 2
    """An argument or a file cannot be used; nothing was written."""
    MISSING_PART = 3
    """A part of Dayfly that the command needs is not installed."""
    INTERRUPTED = 130
    """Stopped by the user; nothing was written."""


def fail(message: str, code: ExitCode = ExitCode.BAD_INPUT) -> NoReturn:
    """End with a message on standard error."""
    sys.stderr.write(f"dayfly: {message}\n")
    raise typer.Exit(code)


def guarded(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn refusals, unreadable files and an interruption into a message and an exit code; anything else is a defect."""

    @functools.wraps(command)
    def guard(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            fail("interrupted; nothing was written", ExitCode.INTERRUPTED)
        except OSError as error:
            place = f"file={error.filename!s} " if error.filename else "input "
            fail(f"{place}must be usable: {error.strerror or error}; check path and permissions")
        except Exception as error:
            from dayfly.privacy.errors import DayflyError  # noqa: PLC0415 - `--version` must not pay for it

            if not isinstance(error, DayflyError):
                raise
            fail(str(error))

    return guard
