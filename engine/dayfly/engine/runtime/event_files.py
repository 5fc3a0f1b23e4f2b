"""Files of events, one per channel, as arrivals.

`CHANNEL.jsonl`, `CHANNEL.anything.csv.gz` and so on: the part of the name before the first dot is the channel, and the policy
says how its bytes are to be read. Lines stand in the order of receipt. Segment and RudderStack lines carry ``receivedAt``,
CloudEvents ``recordedtime``; a line without it arrived with the one before. Rows of mapped files arrive at their own time.
"""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec
import pyarrow.parquet

from dayfly.engine.errors import CatalogError, IntakeError, RunError
from dayfly.engine.intake import FileMapping, Intake, IntakeResult, check_mapping
from dayfly.engine.intake.times import rfc3339_to_ms
from dayfly.engine.policy.model import Channel, Policy
from dayfly.engine.runtime.arrivals import Arrival, Form, RawMessage, pieces

__all__ = ["EventFile", "open_event_files"]

_FORMS: Final[dict[str, Form]] = {
    "segment": "segment",
    "rudderstack": "segment",
    "cloudevents": "cloudevents",
}
_SUFFIXES: Final = (".jsonl", ".csv", ".parquet")
_MAX_LINE_BYTES: Final = 4 << 20
_ROWS: Final = 1_024


class _Receipt(msgspec.Struct):
    """The times of a line that can say when it arrived, best first; everything else in it is left alone."""

    received_at: str | None = msgspec.field(default=None, name="receivedAt")
    recorded: str | None = msgspec.field(default=None, name="recordedtime")
    sent_at: str | None = msgspec.field(default=None, name="sentAt")
    timestamp: str | None = None
    time: str | None = None


_receipt = msgspec.json.Decoder(_Receipt).decode


class EventFile:
    """One event file that fits the policy.

    Args:
        path: The file.
        policy: The policy in force.

    Raises:
        RunError: no such file, a channel or ending that the policy cannot read, or no mapping for it.
    """

    def __init__(self, path: Path, policy: Policy) -> None:
        if not path.is_file():
            raise RunError(f"file={str(path)!r} must be an existing file; check the path")
        self.path = path
        self.suffix = _suffix(path)
        self.channel = _channel(path, policy)
        self.form: Form | None = _FORMS.get(self.channel.form)
        self.mapping = None if self.form is not None else _mapping(path, self.channel, policy)
        if self.form is not None and self.suffix != ".jsonl":
            raise RunError(
                f"file={path.name!r} must be .jsonl, as channel {self.channel.name!r} sends {self.channel.form}; "
                "write one message a line"
            )

    def rows_about(self) -> int | None:
        """About how many messages or rows it holds, for progress; None where counting costs too much."""
        if self.suffix == ".parquet":
            return int(pyarrow.parquet.ParquetFile(self.path).metadata.num_rows)
        if self.path.name.endswith(".gz"):
            return None
        with self.path.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))

    def arrivals(self, intake: Intake) -> Iterator[Arrival]:
        """Everything in the file, in its order.

        Args:
            intake: Reads the rows of mapped files.

        Raises:
            RunError: no line of a file of messages says when it arrived.
        """
        if self.form is not None:
            return self._messages(self.form)
        assert self.mapping is not None
        return pieces(self._rows(intake, self.mapping), self.channel.name)

    def _rows(self, intake: Intake, mapping: FileMapping) -> Iterator[IntakeResult]:
        if self.suffix == ".jsonl":
            return intake.jsonl(self.path, mapping, chunk_rows=_ROWS)
        if self.suffix == ".csv":
            return intake.csv(self.path, mapping, chunk_rows=_ROWS)
        return intake.parquet(self.path, mapping, chunk_rows=_ROWS)

    def _messages(self, form: Form) -> Iterator[RawMessage]:
        latest: int | None = None
        waiting: list[bytes] = []
        with _open(self.path) as stream:
            while line := stream.readline(_MAX_LINE_BYTES):
                payload = line.strip()
                if not payload:
                    continue
                found = _received_ms(payload)
                if latest is None:
                    waiting.append(payload)
                    if found is not None:
                        latest = found
                        yield from (RawMessage(latest, self.channel.name, form, early) for early in waiting)
                    continue
                latest = latest if found is None else max(latest, found)
                yield RawMessage(latest, self.channel.name, form, payload)
        if latest is None and waiting:
            raise RunError(
                f"file={self.path.name!r} must say in its lines when they arrived; export it with receivedAt or recordedtime"
            )


def open_event_files(paths: Sequence[Path], policy: Policy) -> tuple[EventFile, ...]:
    """The files, each checked against the policy before anything is read.

    Raises:
        RunError: a file cannot be used, or stands twice.
    """
    if len({path.resolve() for path in paths}) != len(paths):
        raise RunError(f"files={[str(path) for path in paths]!r} must be different; name each file once")
    return tuple(EventFile(path, policy) for path in paths)


def _suffix(path: Path) -> str:
    plain = path.name.removesuffix(".gz")
    suffix = Path(plain).suffix
    if suffix not in _SUFFIXES:
        raise RunError(
            f"file={path.name!r} must end in one of {' '.join(_SUFFIXES)} (or that and .gz); rename or convert it"
        )
    return suffix


def _channel(path: Path, policy: Policy) -> Channel:
    name = path.name.partition(".")[0]
    for channel in policy.channels:
        if channel.name == name:
            return channel
    known = ", ".join(channel.name for channel in policy.channels) or "none"
    raise RunError(
        f"file={path.name!r} must begin with the name of a channel and a dot; the policy declares: {known}"
    )


def _mapping(path: Path, channel: Channel, policy: Policy) -> FileMapping:
    """The mapping of the channel; with several, the one that the second part of the file's name gives."""
    fitting = {
        name: cast("FileMapping", mapping)
        for name, mapping in policy.mappings.items()
        if cast("FileMapping", mapping).channel == channel.name
    }
    named = path.name.split(".")[1]
    chosen = fitting.get(named) or (next(iter(fitting.values())) if len(fitting) == 1 else None)
    if chosen is None:
        have = ", ".join(fitting) or "none"
        raise RunError(
            f"file={path.name!r} must have one mapping of channel {channel.name!r} in the policy, which has: {have}; "
            "declare one, or name the file CHANNEL.MAPPING.csv"
        )
    try:
        check_mapping(chosen, policy.catalog)
    except CatalogError as error:
        raise RunError(f"file={path.name!r} must have a mapping that fits the catalogue: {error}") from error
    return chosen


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as plain:
        if path.name.endswith(".gz"):
            with gzip.open(plain) as unpacked:
                yield cast("BinaryIO", unpacked)
        else:
            yield plain


def _received_ms(payload: bytes) -> int | None:
    """When a message arrived, as it says itself; None when it does not."""
    try:
        times = _receipt(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    for text in (times.received_at, times.recorded, times.sent_at, times.timestamp, times.time):
        if text is not None:
            try:
                return rfc3339_to_ms(text)
            except IntakeError:
                continue
    return None
