"""A shard in a process of its own: calls and answers over one pipe.

The child ends at once when its parent is gone, as a crash would end it: its fragments' keys die with it, and its log has
everything that was acknowledged.
"""

import gc
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import connection, get_context, parent_process, util
from multiprocessing.connection import Connection
from typing import Any, Final

from dayfly.engine.errors import EngineError, EngineFailed, StoreLocked
from dayfly.engine.sharded.member import Member, MemberSpec

__all__ = ["ProcessClient"]

_OPEN: Final = -1
"""Number of the answer that says whether the store could be opened."""
_LOCK_PATIENCE_SECONDS: Final = 5.0
_CLOSE: Final = "close"
_FIRST: Final = 100
"""Priority at the end of the interpreter: before it waits for children."""


class ProcessClient:
    """The parent's end of one shard. Thread-safe.

    Args:
        spec: What the child opens.
    """

    def __init__(self, spec: MemberSpec) -> None:
        context = get_context("spawn")
        self._number: Final = spec.part.number
        self._pipe, theirs = context.Pipe()
        self._process: Final = context.Process(
            target=_serve, args=(spec, theirs), name=f"dayfly-shard-{self._number:02}", daemon=True
        )
        self._process.start()
        theirs.close()
        self._hang_up: Final = util.Finalize(self, _hang_up, (self._pipe.fileno(),), exitpriority=_FIRST)
        self.opened: Final[Future[Any]] = Future()
        self._waiting: dict[int, Future[Any]] = {_OPEN: self.opened}
        self._lock: Final = threading.Lock()
        # Never held by the reader: answers come in while a call waits for room in the pipe.
        self._sending: Final = threading.Lock()
        self._next = 0
        self._gone = False
        self._told: list[Callable[[EngineFailed], object]] = []
        self._reader: Final = threading.Thread(target=self._read, name="dayfly-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid or 0

    def on_end(self, told: Callable[[EngineFailed], object]) -> None:
        """Have somebody told when the child is gone."""
        with self._lock:
            gone = self._gone
            self._told.append(told)
        if gone:
            told(self._failure())

    def call(self, name: str, *args: Any) -> "Future[Any]":
        """As `Member.call`; the future has `EngineFailed` when the child is gone."""
        future: Future[Any] = Future()
        with self._sending:
            with self._lock:
                if self._gone:
                    future.set_exception(self._failure())
                    return future
                number = self._next
                self._next += 1
                self._waiting[number] = future
            try:
                self._pipe.send((number, name, args))
            except OSError:
                with self._lock:
                    lost = self._waiting.pop(number, None)
                if lost is not None:
                    lost.set_exception(self._failure())
        return future

    def close(self) -> None:
        """Close the shard and wait for its process. Of one that has ended already there is nothing to close."""
        try:
            with suppress(EngineFailed):
                self.call(_CLOSE).result()
        finally:
            self._hang_up()
            self._process.join()
            self._reader.join()
            self._pipe.close()

    def _failure(self) -> EngineFailed:
        return EngineFailed(
            f"shard={self._number} must be running and its process has ended; close the engine and open it again, what was"
            " acknowledged is safe on disk"
        )

    def _read(self) -> None:
        while True:
            try:
                number, good, value = self._pipe.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._waiting.pop(number, None)
            if future is not None:
                (future.set_result if good else future.set_exception)(value if good else _raisable(value))
        with self._lock:
            self._gone = True
            left, self._waiting = list(self._waiting.values()), {}
        for told in self._told:
            told(self._failure())
        for future in left:
            future.set_exception(self._failure())


def _hang_up(descriptor: int) -> None:
    """End the connection in both directions, also for a thread that reads from it."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as end:
        end.shutdown(socket.SHUT_RDWR)


# --- errors on their way ------------------------------------------------------------------------------------------------


def _portable(error: BaseException) -> tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]:
    """An error as what it consists of: many constructors cannot be called with `args`."""
    parts = (type(error), error.args, dict(vars(error)))
    try:
        pickle.loads(pickle.dumps(parts))  # noqa: S301 - our own bytes, to see whether they can be read
    except Exception:  # noqa: BLE001 - whatever an error carries
        return EngineError, (f"{type(error).__name__}: {error}",), {}
    return parts


def _raisable(parts: tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]) -> BaseException:
    """What `_portable` took apart."""
    kind, args, attributes = parts
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


# --- the child ------------------------------------------------------------------------------------------------------------


def _serve(spec: MemberSpec, pipe: Connection) -> None:
    """Open the shard and answer calls until the parent closes it or is gone."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to all at once: the parent decides when to end
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="dayfly-parent", daemon=True).start()
    sending = threading.Lock()
    try:
        member = _opened(spec)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        _answer(pipe, sending, _OPEN, good=False, value=error)
        return
    gc.collect()
    gc.freeze()  # what was recovered stays: no collection need look at it again
    _answer(pipe, sending, _OPEN, good=True, value=os.getpid())
    while True:
        try:
            number, name, args = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if name == _CLOSE:
            _close(member, pipe, sending, number)
            return
        try:
            future = member.call(name, *args)
        except Exception as error:  # noqa: BLE001 - belongs to this call alone
            _answer(pipe, sending, number, good=False, value=error)
        else:
            future.add_done_callback(partial(_done, pipe, sending, number))


def _end_with_parent() -> None:
    """End at once when the parent is gone, wherever this process is."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _opened(spec: MemberSpec) -> Member:
    """The shard; one whose last process is just ending is waited for."""
    end = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            return Member(spec)
        except StoreLocked:
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)


def _close(member: Member, pipe: Connection, sending: threading.Lock, number: int) -> None:
    try:
        member.close()
    except Exception as error:  # noqa: BLE001 - the parent must hear of it
        _answer(pipe, sending, number, good=False, value=error)
    else:
        _answer(pipe, sending, number, good=True, value=None)


def _done(pipe: Connection, sending: threading.Lock, number: int, future: "Future[Any]") -> None:
    error = future.exception()
    _answer(pipe, sending, number, good=error is None, value=future.result() if error is None else error)


def _answer(pipe: Connection, sending: threading.Lock, number: int, *, good: bool, value: Any) -> None:
    """Send an answer. An error that does not survive the way is told by its name and words."""
    told = value if good else _portable(value)
    with sending, suppress(OSError):
        pipe.send((number, good, told))
