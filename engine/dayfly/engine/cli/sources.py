"""Where a run's events come from: the files named, or files that the generator writes for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dayfly.engine.generator import Generator, RawEvent, write

__all__ = ["Generated", "generated_files", "write_generated"]


@dataclass(frozen=True, slots=True)
class Generated:
    """What to generate: `people` over `duration_ms` from `start_ms`, all drawn from `seed`."""

    seed: int
    people: int
    start_ms: int
    duration_ms: int

    def stream(self) -> Generator:
        """The stream.

        Raises:
            GeneratorError: a setting is out of its range.
        """
        return Generator(self.seed, self.people, self.start_ms, self.duration_ms)


def write_generated(wanted: Generated, folder: Path, console: Console) -> dict[str, int]:
    """Write the stream's files with a progress bar; number of lines by file name."""
    stream = wanted.stream()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("generating events", total=wanted.duration_ms)

        def watched() -> Iterator[RawEvent]:
            for event in stream:
                progress.update(task, completed=event.received_ms - wanted.start_ms)
                yield event

        return dict(write(watched(), folder))


@contextmanager
def generated_files(wanted: Generated, console: Console) -> Iterator[tuple[Path, ...]]:
    """Generated files that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dayfly-") as folder:
        counts = write_generated(wanted, Path(folder), console)
        yield tuple(Path(folder) / name for name, lines in counts.items() if lines)
