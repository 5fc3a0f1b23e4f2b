"""A thread that works until it is stopped."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

__all__ = ["Background"]


class Background(ABC):
    """Work in a thread of its own. A context manager.

    Args:
        name: Of the thread.
        on_error: Told (in the thread) what ended it other than `stop`.

    Attributes:
        stopping: Set by `stop`; the work then ends soon.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], object]) -> None:
        self._name: Final = name
        self._on_error: Final = on_error
        self.stopping: Final = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def work(self) -> None:
        """What the thread does, until `stopping` is set."""

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is at hand and end. Safe from any thread; waits for the thread that `start` began."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - handed on whole: a thread has no caller
            self._on_error(error)
