"""The dead-letter file: one JSON line per input that did not become an event, without any of its content."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import orjson

from dayfly.engine.intake.results import RejectedEvent

__all__ = ["DeadLetterFile"]


class DeadLetterFile:
    """Append-only JSON Lines of rejected events, counted by channel and reason since it was opened.

    A line that a crash cut short is ended before the next one is written, so that every later line stands alone.

    Args:
        path: Created where it does not exist, with its folder.

    Guarantees:
        A line holds time, channel, reason, place, the digest in hexadecimal and the rule in words: no value of the input.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._stream = path.open("ab")
        if torn:
            self._stream.write(b"\n")
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Dead letters written, by (channel, reason)."""
        return MappingProxyType(self._counts)

    def append(self, letters: Iterable[RejectedEvent]) -> int:
        """Write `letters` and hand them to the operating system.

        Returns:
            How many were written.
        """
        lines = []
        for letter in letters:
            lines.append(
                orjson.dumps(
                    {
                        "at_ms": letter.at_ms,
                        "channel": letter.channel,
                        "reason": letter.reason,
                        "place": letter.place,
                        "digest": letter.digest.hex(),
                        "detail": letter.detail,
                    },
                    option=orjson.OPT_APPEND_NEWLINE,
                )
            )
            self._counts[letter.channel, letter.reason.value] += 1
        self._stream.write(b"".join(lines))
        self._stream.flush()
        return len(lines)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
