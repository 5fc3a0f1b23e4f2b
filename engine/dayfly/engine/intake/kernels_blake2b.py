"""BLAKE2b (RFC 7693) over slices of a byte array, without a Python call per message.

The result is that of `hashlib.blake2b`, which is the oracle in the tests. It exists because three `hashlib` calls cost an
event more than everything else that intake does to it. A keyed hash starts from a state that has taken its parameters and
key already (`keyed_state`), so that a message of up to 128 bytes costs one compression.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.intake.kernels_memory import MASK64, load64, u64
from dayfly.privacy._jit import kernel

__all__ = ["BLOCK_BYTES", "blake2b", "keyed_state"]

Word: TypeAlias = Any
Words: TypeAlias = npt.NDArray[np.uint64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

BLOCK_BYTES = 128

_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
I0, I1, I2, I3, I4, I5, I6, I7 = (u64(word) for word in _IV)
R16, R24, R32, R63, C64, ZERO, ONE = (u64(number) for number in (16, 24, 32, 63, 64, 0, 1))

_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
# Places of the message words, which follow the eight words of the state; rounds 10 and 11 repeat the first two.
AT = np.array([*_SIGMA, *_SIGMA[:2]], np.int64) + 8


@kernel
def _mix(a: Word, b: Word, c: Word, d: Word, x: Word, y: Word) -> tuple[Word, Word, Word, Word]:
    """Function G of section 3.1; MASK64 cuts sums to 64 bits where the compiler is off."""
    a = (a + b + x) & MASK64
    d ^= a
    d = (d >> R32) | ((d << (C64 - R32)) & MASK64)
    c = (c + d) & MASK64
    b ^= c
    b = (b >> R24) | ((b << (C64 - R24)) & MASK64)
    a = (a + b + y) & MASK64
    d ^= a
    d = (d >> R16) | ((d << (C64 - R16)) & MASK64)
    c = (c + d) & MASK64
    b ^= c
    b = (b >> R63) | ((b << (C64 - R63)) & MASK64)
    return a, b, c, d


@kernel
def _compress(h: Words, total: int, last: int) -> None:
    """Function F of section 3.2 on the message words `h[8:24]`; `total` counts bytes, `last` marks the final block."""
    v0, v1, v2, v3 = u64(h[0]), u64(h[1]), u64(h[2]), u64(h[3])
    v4, v5, v6, v7 = u64(h[4]), u64(h[5]), u64(h[6]), u64(h[7])
    v8, v9, v10, v11, v12, v13, v14, v15 = I0, I1, I2, I3, I4 ^ u64(total), I5, I6, I7
    if last != 0:
        v14 ^= MASK64
    for r in range(12):
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, u64(h[AT[r, 0]]), u64(h[AT[r, 1]]))
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, u64(h[AT[r, 2]]), u64(h[AT[r, 3]]))
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, u64(h[AT[r, 4]]), u64(h[AT[r, 5]]))
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, u64(h[AT[r, 6]]), u64(h[AT[r, 7]]))
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, u64(h[AT[r, 8]]), u64(h[AT[r, 9]]))
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, u64(h[AT[r, 10]]), u64(h[AT[r, 11]]))
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, u64(h[AT[r, 12]]), u64(h[AT[r, 13]]))
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, u64(h[AT[r, 14]]), u64(h[AT[r, 15]]))
    h[0] = u64(h[0]) ^ v0 ^ v8
    h[1] = u64(h[1]) ^ v1 ^ v9
    h[2] = u64(h[2]) ^ v2 ^ v10
    h[3] = u64(h[3]) ^ v3 ^ v11
    h[4] = u64(h[4]) ^ v4 ^ v12
    h[5] = u64(h[5]) ^ v5 ^ v13
    h[6] = u64(h[6]) ^ v6 ^ v14
    h[7] = u64(h[7]) ^ v7 ^ v15


@kernel
def blake2b(h: Words, states: Words, which: int, data: Bytes, start: int, length: int) -> None:
    """Keyed BLAKE2b of `data[start:start + length]`.

    Args:
        h: uint64[24]; the first eight receive the hash as little-endian words, the rest is scratch.
        states: uint64[K, 8], states from `keyed_state`; each stands for 128 bytes taken already.
        which: Row of `states`.
        data: uint8[n], with at least seven bytes after the message.
        start: First byte of the message.
        length: Bytes of the message, at least one.
    """
    for i in range(8):
        h[i] = states[which, i]
    taken = 0
    while length - taken > 128:
        for i in range(16):
            h[8 + i] = load64(data, start + taken + 8 * i)
        taken += 128
        _compress(h, 128 + taken, 0)
    for i in range(16):
        rest = length - taken - 8 * i
        if rest >= 8:
            h[8 + i] = load64(data, start + taken + 8 * i)
        elif rest > 0:
            h[8 + i] = load64(data, start + taken + 8 * i) & ((ONE << u64(8 * rest)) - ONE)
        else:
            h[8 + i] = ZERO
    _compress(h, 128 + length, 1)


def keyed_state(
    key: bytes, *, digest_bytes: int, salt: bytes = b"", person: bytes = b""
) -> npt.NDArray[np.uint64]:
    """The state after the parameter block (section 2.5) and the key block, as `hashlib.blake2b` forms them.

    Args:
        key: 1 to 64 bytes.
        digest_bytes: Length of the digest that will be read off, 1 to 64.
        salt: At most 16 bytes.
        person: At most 16 bytes.

    Returns:
        uint64[8].
    """
    parameters = (
        bytes([digest_bytes, len(key), 1, 1]) + bytes(28) + salt.ljust(16, b"\0") + person.ljust(16, b"\0")
    )
    h = np.zeros(24, np.uint64)
    h[:8] = np.array(_IV, np.uint64) ^ np.frombuffer(parameters, "<u8")
    h[8:] = np.frombuffer(key.ljust(BLOCK_BYTES, b"\0"), "<u8")
    _compress(h, BLOCK_BYTES, 0)
    h[8:] = 0
    return h[:8].copy()
