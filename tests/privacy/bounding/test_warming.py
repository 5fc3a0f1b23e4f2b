"""The warm-up compiles what queries use."""

import os

import numpy as np
import pyarrow as pa
import pytest

from dayfly.privacy.bounding import Contribution, Lattice, bounded_group_by, encode, kernels
from dayfly.privacy.bounding.warming import warm


@pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="without the compiler there is nothing to warm"
)
def test_after_the_warm_up_no_kind_of_column_compiles_anything() -> None:
    warm()
    compiled = {
        name: len(getattr(kernels, name).signatures)
        for name in kernels.__all__
        if hasattr(getattr(kernels, name), "signatures")
    }
    assert all(compiled.values()), compiled

    whole, broken = pa.array([1, 2, 3]), pa.array([0.5, None, 1.0])
    for who in (
        whole,
        whole.cast(pa.int16()),
        pa.array(["a", None, "b"]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        np.arange(3),
    ):
        for paid in (whole, broken, whole.cast(pa.uint64()), np.arange(6.0)[::2], None):
            columns = encode(
                {"who": who, "where": who, "paid": paid if paid is not None else who},
                customer="who",
                groups=["where"],
                value=None if paid is None else "paid",
            )
            columns.group_by(Contribution(2, 1, 0, 1), salt=bytes(16))
            columns.rows(Contribution(2, 1, 0, 1), method="first_come", salt=bytes(16))
    frozen = np.arange(3, dtype=np.int32)
    frozen.flags.writeable = False
    bounded_group_by(
        frozen, frozen.astype(np.uint8), frozen, 3, Contribution(1), salt=bytes(16), lattice=Lattice()
    )

    assert compiled == {name: len(getattr(kernels, name).signatures) for name in compiled}
