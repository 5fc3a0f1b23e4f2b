"""SipHash-2-4 (Aumasson and Bernstein, 2012), compiled: secret words of keys, many at once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = ["siphash_integers", "siphash_words"]

_S13: Final = np.uint64(13)
_S16: Final = np.uint64(16)
_S17: Final = np.uint64(17)
_S21: Final = np.uint64(21)
_S32: Final = np.uint64(32)
_S43: Final = np.uint64(43)
_S47: Final = np.uint64(47)
_S48: Final = np.uint64(48)
_S51: Final = np.uint64(51)
_S56: Final = np.uint64(56)
_SIP_0: Final = np.uint64(0x736F6D6570736575)
_SIP_1: Final = np.uint64(0x646F72616E646F6D)
_SIP_2: Final = np.uint64(0x6C7967656E657261)
_SIP_3: Final = np.uint64(0x7465646279746573)
_SIP_END: Final = np.uint64(0xFF)
_SIP_NINE: Final = np.uint64(9 << 56 | 1)  # the last word of nine bytes: their number, and the ninth


@inlined_kernel
def _sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """One SipRound."""
    v0 = v0 + v1
    v1 = ((v1 << _S13) | (v1 >> _S51)) ^ v0
    v0 = (v0 << _S32) | (v0 >> _S32)
    v2 = v2 + v3
    v3 = ((v3 << _S16) | (v3 >> _S48)) ^ v2
    v0 = v0 + v3
    v3 = ((v3 << _S21) | (v3 >> _S43)) ^ v0
    v2 = v2 + v1
    v1 = ((v1 << _S17) | (v1 >> _S47)) ^ v2
    v2 = (v2 << _S32) | (v2 >> _S32)
    return v0, v1, v2, v3


@lean_kernel
def siphash_integers(
    keys: NDArray[np.int64], key_0: np.uint64, key_1: np.uint64, out: NDArray[np.uint64]
) -> None:
    """SipHash-2-4 of each integer's eight little-endian bytes and a ninth, 1: as `siphash_words` of those, several at once."""
    for item in range(out.size):
        v0 = key_0 ^ _SIP_0
        v1 = key_1 ^ _SIP_1
        v2 = key_0 ^ _SIP_2
        v3 = key_1 ^ _SIP_3
        word = np.uint64(keys[item])
        v3 ^= word
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= word
        v3 ^= _SIP_NINE
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= _SIP_NINE
        v2 ^= _SIP_END
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        out[item] = v0 ^ v1 ^ v2 ^ v3


@lean_kernel
def siphash_words(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    key_0: np.uint64,
    key_1: np.uint64,
    out: NDArray[np.uint64],
) -> None:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) of the byte strings `data[offsets[i]:offsets[i + 1]]`, little-endian words."""
    for item in range(out.size):
        begin = offsets[item]
        length = offsets[item + 1] - begin
        v0 = key_0 ^ _SIP_0
        v1 = key_1 ^ _SIP_1
        v2 = key_0 ^ _SIP_2
        v3 = key_1 ^ _SIP_3
        whole = length // 8
        for block in range(whole + 1):
            word = np.uint64(0)
            if block < whole:
                for byte in range(8):
                    word |= np.uint64(data[begin + 8 * block + byte]) << np.uint64(8 * byte)
            else:
                word = np.uint64(length & 0xFF) << _S56
                for byte in range(length - 8 * whole):
                    word |= np.uint64(data[begin + 8 * block + byte]) << np.uint64(8 * byte)
            v3 ^= word
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0 ^= word
        v2 ^= _SIP_END
        for _ in range(4):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        out[item] = v0 ^ v1 ^ v2 ^ v3
