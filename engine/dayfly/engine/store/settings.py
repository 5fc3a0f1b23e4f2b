"""How a log is laid out and how it commits."""

from dataclasses import dataclass
from typing import Final

from dayfly.privacy.errors import InvalidArgument

from .frames import FRAME_HEAD_BYTES, HEAD_BYTES, HEADER_BYTES, SECTOR_BYTES, TAG_BYTES, record_bytes

__all__ = ["TENANT_BYTES", "LogSettings", "check_tenant"]

TENANT_BYTES: Final = 16
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Settings of a log. `segment_bytes` and `align_bytes` hold for new segments; old ones are read as they are.

    Attributes:
        segment_bytes: Size of a segment file, a multiple of 4096. One segment more than is in use is kept prepared.
        align_bytes: Commits begin at multiples of this, so that a disk that writes in such units never writes an acknowledged
            byte again. 4096 costs nothing in time on disks of today; 512 takes less room where frames are few and small.
        max_commit_bytes: About the most that one commit takes from the buffer.
        max_buffer_bytes: Frames waiting for the disk; `Log.append` waits above it.
        pause_seconds: Least time between the end of a commit and the next, to write less often. 0: commit what there is.
        spare_segments: Files of forgotten segments that are kept for reuse.
        retry_seconds: How often preparing the next segment is tried again after it failed.

    Raises:
        InvalidArgument: a setting is out of range.
    """

    segment_bytes: int = 64 * _MIB
    align_bytes: int = 4096
    max_commit_bytes: int = 8 * _MIB
    max_buffer_bytes: int = 64 * _MIB
    pause_seconds: float = 0.0
    spare_segments: int = 1
    retry_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.align_bytes not in (SECTOR_BYTES, 1024, 2048, 4096):
            raise InvalidArgument(
                f"align_bytes={self.align_bytes} must be 512, 1024, 2048 or 4096; take the disk's physical sector"
            )
        if self.segment_bytes % 4096 or not 4 * 4096 <= self.segment_bytes <= 1 << 31:
            raise InvalidArgument(
                f"segment_bytes={self.segment_bytes} must be a multiple of 4096 from 16384 to 2 GiB; "
                "take the default of 64 MiB"
            )
        for name, least in (("max_commit_bytes", 1), ("max_buffer_bytes", 1), ("spare_segments", 0)):
            if getattr(self, name) < least:
                raise InvalidArgument(f"{name}={getattr(self, name)} must be >= {least}; take the default")
        if not 0 <= self.pause_seconds <= 60:
            raise InvalidArgument(
                f"pause_seconds={self.pause_seconds} must be 0 to 60; take 0 to commit at once"
            )
        if not 0 < self.retry_seconds <= 3600:
            raise InvalidArgument(
                f"retry_seconds={self.retry_seconds} must be above 0 and at most 3600; take the default"
            )

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload of one frame: what an otherwise empty segment holds."""
        room = self.segment_bytes - HEADER_BYTES - 2 * record_bytes(0, self.align_bytes)
        return room - HEAD_BYTES - TAG_BYTES - FRAME_HEAD_BYTES


def check_tenant(tenant: bytes) -> bytes:
    """The tenant id, if it has 16 bytes.

    Raises:
        InvalidArgument: it has not.
    """
    if len(tenant) != TENANT_BYTES:
        raise InvalidArgument(
            f"tenant of {len(tenant)} bytes must have {TENANT_BYTES}; pass the id in the store's marker"
        )
    return bytes(tenant)
