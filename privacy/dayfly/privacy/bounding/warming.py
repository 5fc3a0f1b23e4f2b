"""Calls every kernel of this package once, with the types that queries use."""

from fractions import Fraction

import numpy as np

from .columns import encode
from .contribution import Contribution
from .lattice import Lattice
from .partial import Partial

__all__ = ["warm"]


def warm() -> None:
    """Compile or load the kernels."""
    salt, bounds, lattice = bytes(16), Contribution(1, 1, 0, 1), Lattice(Fraction(1, 2))
    table = {"who": [0, 0, 2], "where": np.array(["a", "b", "a"]), "paid": np.array([0.5, 1.0, 1.5])}
    columns = encode(table, customer="who", groups=["where"], value="paid", lattice=lattice)
    columns.group_by(bounds, salt=salt)
    columns.rows(bounds, salt=salt)
    whole, piece = (Partial(bounds, salt=salt, lattice=lattice) for _ in range(2))
    piece.add(columns.with_values(np.array([1, 2, 3]), lattice=lattice))
    whole.merge(piece)
    whole.finish()
