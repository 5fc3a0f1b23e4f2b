"""The store on disk: the log that everything durable comes from, snapshots, and the folder with its lock and marker."""

from .directory import StoreLock, StoreMarker
from .files import LOCAL_DISK, Disk, LocalDisk
from .frames import Frame
from .log import Log, LogStatus
from .recovery import oldest_position
from .settings import LogSettings
from .snapshots import Snapshots

__all__ = [
    "LOCAL_DISK",
    "Disk",
    "Frame",
    "LocalDisk",
    "Log",
    "LogSettings",
    "LogStatus",
    "Snapshots",
    "StoreLock",
    "StoreMarker",
    "oldest_position",
]
