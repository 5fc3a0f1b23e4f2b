"""Secret words of customers and groups: SipHash-2-4 of their keys under sub-keys of the release's salt.

The priority of a (customer, group) is `mix(word(customer) ^ word(group))`, a bijection of 64 bits of the two words.

Claim: for a fixed customer, the priorities of distinct groups are in uniformly random order (SipHash taken as a random function), so the
L0 smallest are a uniform sample; without the salt nobody can tell which ones. Customers sample almost independently of each other: the
bijection leaves no order of groups in common.

Privacy does not rest on this: whatever the words are, a customer's kept groups depend on this customer's rows alone, which is all that the
sensitivity needs. The salt is fresh and secret per release so that what is left out is not the same every time, nor predictable.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy._compute import pc
from dayfly.privacy.errors import InvalidArgument

from .frozen import frozen
from .kernels_siphash import siphash_integers, siphash_words
from .keys import key_array

__all__ = ["SALT_BYTES", "SaltedKeys"]

SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True, repr=False)
class SaltedKeys:
    """Sub-keys of one salt. Never shown: the class has no representation of its fields.

    Attributes:
        customers: SipHash key of customers.
        groups: SipHash key of groups.
        rows: SipHash-sized key of row samples.
        tag: Key of the check that two partial results share a salt.
    """

    customers: tuple[np.uint64, np.uint64]
    groups: tuple[np.uint64, np.uint64]
    rows: tuple[np.uint64, np.uint64]
    tag: bytes

    @classmethod
    def of(cls, salt: bytes) -> "SaltedKeys":
        """Derive the sub-keys.

        Raises:
            InvalidArgument: The salt is not 16 bytes.
        """
        if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
            length = len(salt) if isinstance(salt, bytes) else type(salt).__name__
            raise InvalidArgument(
                f"salt={length!r} (length) must be {SALT_BYTES} random bytes; draw a fresh salt for each release"
            )

        def derive(person: bytes) -> bytes:
            return hashlib.blake2b(key=salt, person=person, digest_size=SALT_BYTES).digest()

        def words(person: bytes) -> tuple[np.uint64, np.uint64]:
            low, high = np.frombuffer(derive(person), dtype="<u8")
            return np.uint64(low), np.uint64(high)

        return cls(
            customers=words(b"bound customers"),
            groups=words(b"bound groups"),
            rows=words(b"bound rows"),
            tag=derive(b"bound partial"),
        )

    def customer_words(self, keys: pa.Array) -> NDArray[np.uint64]:
        """Words of customer keys, shape (keys,)."""
        return _array_words(keys, self.customers)

    def group_words(self, keys: pa.Table) -> NDArray[np.uint64]:
        """Words of group keys, one per row of the key table."""
        columns = [
            _array_words(key_array(name, keys.column(name)), self.groups) for name in keys.column_names
        ]
        if len(columns) == 1:
            return columns[0]
        packed = np.stack(columns, axis=1).astype("<u8", copy=False)
        return _hash(packed.reshape(-1).view(np.uint8), _even(keys.num_rows, 8 * len(columns)), self.groups)

    def code_words(self, count: int, *, of: tuple[np.uint64, np.uint64]) -> NDArray[np.uint64]:
        """Words of the bare codes `0..count - 1`: those that integer keys of the same values would get."""
        return _integer_words(np.arange(count, dtype=np.int64), of)


def _array_words(keys: pa.Array | pa.ChunkedArray, key: tuple[np.uint64, np.uint64]) -> NDArray[np.uint64]:
    """Words of integers or strings. A key is hashed with a trailing 1 and null is a lone 0, so they never meet."""
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if pa.types.is_integer(keys.type):
        words = _integer_words(np.asarray(keys.fill_null(0), dtype=np.int64), key)
    else:
        end, nothing = (pa.scalar(text, pa.large_binary()) for text in (b"\x01", b""))
        texts = pc.binary_join_element_wise(
            keys.cast(pa.large_binary()).fill_null(b""), end, nothing, null_handling="emit_null"
        )
        _, offsets, data = texts.buffers()
        starts = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        words = _hash(np.frombuffer(data, np.uint8), starts, key)
    if keys.null_count:
        words[np.asarray(keys.is_null())] = _hash(np.zeros(1, np.uint8), _even(1, 1), key)
    return words


def _integer_words(keys: NDArray[np.int64], key: tuple[np.uint64, np.uint64]) -> NDArray[np.uint64]:
    out = np.empty(keys.size, np.uint64)
    siphash_integers(frozen(keys, np.int64), key[0], key[1], out)
    return out


def _even(count: int, width: int) -> NDArray[np.int64]:
    return np.arange(count + 1, dtype=np.int64) * width


def _hash(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], key: tuple[np.uint64, np.uint64]
) -> NDArray[np.uint64]:
    out = np.empty(offsets.size - 1, np.uint64)
    siphash_words(frozen(data, np.uint8), frozen(offsets, np.int64), key[0], key[1], out)
    return out
