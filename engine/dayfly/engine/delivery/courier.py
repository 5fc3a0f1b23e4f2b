"""The runner: carries what `Delivery` says to the endpoints, on one event loop in one thread.

The disk is written in a second thread, everything that has arrived in one commit, while requests go on.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from .background import Background
from .delivery import Delivery
from .letters import Send
from .outcomes import Outcome, Result
from .transport import Progress, Transport

__all__ = ["Courier"]

_MAX_SLEEP_SECONDS: Final = 1.0
"""A clock that is stepped is noticed after this long."""


class Courier(Background):
    """Delivers until it is stopped. A context manager: `with Courier(...):` runs it in a thread.

    Args:
        delivery: What to deliver; stays open.
        transport: Makes attempts; is closed at the end.
        now_ms: The clock.
        on_error: Told (in the courier's thread) what ended it other than `stop`.
    """

    def __init__(
        self,
        delivery: Delivery,
        transport: Transport,
        *,
        now_ms: Callable[[], int],
        on_error: Callable[[BaseException], None],
    ) -> None:
        super().__init__("dayfly-courier", on_error)
        self._delivery = delivery
        self._transport = transport
        self._now_ms = now_ms
        self._tasks: dict[int, asyncio.Task[Result]] = {}
        self._results: list[tuple[int, Result]] = []
        self._slots = {
            endpoint.name: asyncio.Semaphore(endpoint.concurrency) for endpoint in delivery.settings.endpoints
        }
        self._broken: BaseException | None = None
        self._lock = threading.Lock()
        self._signal: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def work(self) -> None:
        """As `run`, on an event loop of its own."""
        asyncio.run(self.run())

    def stop(self) -> None:
        """Break off what is in flight, note how far it got, end. Safe from any thread; waits for the courier's own thread."""
        self.stopping.set()
        self._wake()
        super().stop()

    async def run(self) -> None:
        """Deliver until `stop` is called, for callers with an event loop of their own."""
        wake = asyncio.Event()
        with self._lock:
            self._signal = (asyncio.get_running_loop(), wake)
        self._delivery.on_work(self._wake)
        with ThreadPoolExecutor(1, thread_name_prefix="dayfly-delivery-disk") as disk:
            try:
                while not self.stopping.is_set():
                    await self._turn(disk, wake)
            finally:
                with self._lock:
                    self._signal = None
                await self._end()
        self._delivery.finish(self._results, now_ms=self._now_ms())

    async def _turn(self, disk: ThreadPoolExecutor, wake: asyncio.Event) -> None:
        """Settle what has ended, begin what is due, sleep until something happens."""
        wake.clear()
        if self._broken is not None:
            raise self._broken
        results, self._results = self._results, []
        step = partial(self._delivery.step, results, now_ms=self._now_ms())
        work = await asyncio.get_running_loop().run_in_executor(disk, step)
        for job_id in work.aborts:
            if job_id in self._tasks:
                self._tasks[job_id].cancel()
        for send in work.sends:
            self._launch(send, wake)
        seconds = _MAX_SLEEP_SECONDS
        if work.wake_ms is not None:
            seconds = min(seconds, max(0.0, (work.wake_ms - self._now_ms()) / 1000))
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return

    def _launch(self, send: Send, wake: asyncio.Event) -> None:
        """Start an attempt whose result is noted however it ends, cancelled before its first instruction included."""
        progress = Progress()
        task = asyncio.create_task(self._attempt(send, progress))

        def note(ended: asyncio.Task[Result]) -> None:
            del self._tasks[send.job_id]
            wake.set()
            if ended.cancelled():
                self._results.append(
                    (send.job_id, Result(Outcome.ABORTED, "aborted", reached=progress.reached))
                )
            elif (error := ended.exception()) is not None:
                self._broken = error
            else:
                self._results.append((send.job_id, ended.result()))

        self._tasks[send.job_id] = task
        task.add_done_callback(note)

    async def _attempt(self, send: Send, progress: Progress) -> Result:
        """One attempt; the clock of its time limit starts when a connection is free."""
        async with self._slots[send.endpoint.name]:
            if send.wanted() and self._now_ms() < send.end_ms:
                return await self._transport.post(send, progress)
        return Result(Outcome.ABORTED, "withdrawn", reached=False)

    async def _end(self) -> None:
        self._delivery.on_work(lambda: None)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the notes of the last ones run
        await self._transport.close()

    def _wake(self) -> None:
        with self._lock:
            if self._signal is not None:
                loop, event = self._signal
                loop.call_soon_threadsafe(event.set)
