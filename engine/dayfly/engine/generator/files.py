"""A generated stream as files that `dayfly run --events FILE...` reads.

One file per channel, lines in received order; the name's ending tells the format::

    app.segment.jsonl           Segment messages, one a line
    web.rudder.jsonl            RudderStack messages
    wifi.cloudevents.jsonl      CloudEvents, structured mode
    marketplace.csv             rows under a header, columns `MARKETPLACE_COLUMNS`
    hotline.jsonl               JSON Lines

The part before the first dot is the channel. As a receiving server's log would, Segment and RudderStack lines carry
``receivedAt``; the other formats hold the time of recording themselves.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from .payloads import MARKETPLACE_COLUMNS
from .stream import RawEvent
from .times import iso_ms

__all__ = ["FILE_NAMES", "write"]

FILE_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "app": "app.segment.jsonl",
        "web": "web.rudder.jsonl",
        "wifi": "wifi.cloudevents.jsonl",
        "marketplace": "marketplace.csv",
        "hotline": "hotline.jsonl",
    }
)


def write(events: Iterable[RawEvent], folder: Path) -> Mapping[str, int]:
    """Write `events` into one file per channel of `folder`, made if absent.

    Returns:
        Number of lines by file name, headers not counted; a channel without events has a file too.

    Raises:
        FileExistsError: one of the files is there already; nothing is overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(FILE_NAMES.values(), 0)
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {
            channel: stack.enter_context((folder / name).open("xb")) for channel, name in FILE_NAMES.items()
        }
        files["marketplace"].write(",".join(MARKETPLACE_COLUMNS).encode() + b"\n")
        for event in events:
            files[event.channel].write(_line(event) + b"\n")
            counts[FILE_NAMES[event.channel]] += 1
    return counts


def _line(event: RawEvent) -> bytes:
    payload = event.payload
    if event.form in {"segment", "rudderstack"} and payload.endswith(b"}"):
        return payload[:-1] + b',"receivedAt":"' + iso_ms(event.received_ms).encode() + b'"}'
    return payload
