"""Write the table of buffered linear Toeplitz (BLT) factorisations that the continual-release package ships.

Run from the project's environment: `python tools/blt_table.py` writes, `--print` only shows. It takes about a minute.

A BLT factor `C` of the running-total matrix has the generating function

    c(x) = 1 + sum_j w_j x / (1 - t_j x) = prod_j (1 - h_j x) / (1 - t_j x),   1 > t_1 > h_1 > t_2 > h_2 > ... > 0,

and its inverse is one too, with the poles `h_j` (Dvijotham, McMahan, Pillutla, Steinke, Thakurta, arXiv 2404.16706;
the pair of poles as parameters: arXiv 2504.21413). Both norms of the error are sums of geometric series in these
poles, so the logarithm of the maximum error is minimised over 2 d numbers, whatever the length.

What is written is rounded to multiples of 2^-30. Nothing at run time trusts this script: sensitivities are computed
from the rounded numbers in integers, and the tests compute every row's error anew.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

__all__ = ["best_factor", "max_error"]

TABLE: Final = Path(__file__).parents[1] / "privacy/dayfly/privacy/continual/blt_table.json"
FRACTION_BITS: Final = 30
LENGTHS: Final = (24, 52, 168, 365, 720, 1_024, 2_160, 4_096, 8_760, 16_384, 35_040, 65_536, 131_072)
BUFFERS: Final = (1, 2, 3, 4)

Vector = NDArray[np.float64]


def _poles(logs: Vector) -> tuple[Vector, Vector]:
    """Poles of `c` and of its inverse from `log(1 - t_1)` and the logarithms of the gaps that follow it.

    In logarithms of the distance from one the poles are evenly spread, and every vector is a valid interlacing.
    """
    distances = np.exp(np.concatenate([logs[:1], logs[0] + np.cumsum(np.exp(logs[1:]))]))
    poles = 1 - distances
    return poles[0::2], poles[1::2]


def _scales(poles: Vector, zeros: Vector) -> Vector:
    """Residues `w_j` of `prod (1 - zeros x) / (1 - poles x) = 1 + sum_j w_j x / (1 - poles_j x)`."""
    scales = np.empty_like(poles)
    for j, pole in enumerate(poles):
        others = np.delete(poles, j)
        scales[j] = (pole - zeros[j]) * np.prod((pole - np.delete(zeros, j)) / (pole - others))
    return scales


def _geometric(ratio: Vector, terms: int) -> Vector:
    return (1 - ratio**terms) / (1 - ratio)


def max_error(logs: Vector, length: int) -> float:
    """Logarithm of `||B||_(2->inf) ||C||_(1->2)` of the factorisation, in units of the noise of one release."""
    poles, zeros = _poles(logs)
    if poles[0] >= 1 or zeros[-1] <= -1:
        return 1e3
    scales = _scales(poles, zeros)
    columns = 1 + np.sum(np.outer(scales, scales) * _geometric(np.outer(poles, poles), length - 1))
    weights = -_scales(zeros, poles) / (1 - zeros)
    rest = 1 - np.sum(weights)
    rows = (
        length * rest**2
        + 2 * rest * np.sum(weights * _geometric(zeros, length))
        + np.sum(np.outer(weights, weights) * _geometric(np.outer(zeros, zeros), length))
    )
    return float(np.log(columns * rows) / 2)


def best_factor(length: int, buffers: int) -> tuple[list[int], list[int], float]:
    """Decays and scales of the best factor found, as multiples of 2^-30, and its maximum error.

    Args:
        length: Steps.
        buffers: Numbers of state per series.
    """
    found: list[OptimizeResult] = []
    for reach in (0.5, 1.0, 2.0):
        gap = np.log(np.log(length) / (2 * buffers))
        start = np.concatenate([[np.log(reach / length)], np.full(2 * buffers - 1, gap)])
        rough = minimize(
            max_error,
            start,
            args=(length,),
            method="Nelder-Mead",
            options={"maxiter": 6_000, "maxfev": 8_000, "xatol": 1e-9, "fatol": 1e-13, "adaptive": True},
        )
        found.append(minimize(max_error, rough.x, args=(length,), method="BFGS", options={"gtol": 1e-10}))
    best = min(found, key=lambda result: float(result.fun))
    poles, zeros = _poles(best.x)
    units = 2**FRACTION_BITS
    decays = [round(float(pole) * units) for pole in poles]
    scales = [round(float(scale) * units) for scale in _scales(poles, zeros)]
    return decays, scales, float(np.exp(best.fun))


def main() -> int:
    """Write or show the table.

    Returns:
        Exit status 0; failures raise.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--print", action="store_true", help="show the table instead of writing it")
    rows = []
    arguments = parser.parse_args()
    for length in LENGTHS:
        for buffers in BUFFERS:
            decays, scales, error = best_factor(length, buffers)
            row = {"length": length, "decays": decays, "scales": scales, "max_error": round(error, 6)}
            rows.append(json.dumps(row))
    text = f'{{"fraction_bits": {FRACTION_BITS}, "rows": [\n  ' + ",\n  ".join(rows) + "\n]}\n"
    if arguments.print:
        sys.stdout.write(text)
    else:
        TABLE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
