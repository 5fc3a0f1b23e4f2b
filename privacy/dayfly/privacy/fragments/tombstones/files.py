"""Writing files so that a crash leaves either the old or the new."""

import os
from pathlib import Path

__all__ = ["replace_file", "sync_folder", "write_at"]


def write_at(file: int, data: bytes, start: int) -> None:
    """Write all of `data` at offset `start`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written


def sync_folder(folder: Path) -> None:
    """Make names made or replaced in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, durably; a crash leaves the old or the new file."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
