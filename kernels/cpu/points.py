"""The matrices of Winograd's convolution, from the points at which its polynomials are multiplied.

A filter of three taps and m outputs are a product of polynomials, which its values at m + 2 points determine:
here 0, pairs p and -p, and infinity (the highest coefficient). With M(t) = t (t^2 - p^2) ... over the finite
points, row i of B^T holds the coefficients of M(t) / (t - p_i), row i of G the powers of p_i over M'(p_i),
and column i of A^T the powers of p_i, so that A^T [(G w) * (B^T x)] is the correlation of x and w (Lavin and
Gray, "Fast algorithms for convolutional neural networks", CVPR 2016).

Which points is a matter of rounding: sums lose digits where a row has numbers of very different size. For
m = 4 the pairs 3/4 and 3/2 leave half of the error of the usual 1 and 2 by norm and a fifth of the
largest, and cost a few products more. That fractions do better is in Barabasz et al., "Error analysis and
improving the accuracy of Winograd convolution", ACM TOMS 2020; these were found by trying fractions of
few bits, whose B and A float32 holds exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

_PAIRS = {2: (Fraction(1),), 4: (Fraction(3, 4), Fraction(3, 2))}
TAPS = 3
Matrix = tuple[tuple[Fraction, ...], ...]


class Matrices(NamedTuple):
    """The maps Y = M X M^T of one tile size; the last three are the adjoints of the first three.

    Rows 2k - 1 and 2k of a tall matrix (columns of a wide one) belong to p and -p. So the even part of one is
    that of the other, and the odd part is its negative.
    """

    input: Matrix  # B^T, tall
    filter: Matrix  # G, tall
    output_back: Matrix  # A, tall
    input_back: Matrix  # B, wide
    filter_back: Matrix  # G^T, wide
    output: Matrix  # A^T, wide


TALL = Matrices._fields[:3]


@functools.cache
def matrices(side: int) -> Matrices:
    """The matrices for tiles of ``side`` x ``side`` outputs, which is 2 or 4."""
    finite = [Fraction(0), *(sign * p for p in _PAIRS[side] for sign in (1, -1))]
    others = [[q for q in finite if q != p] for p in finite]
    b = [*([*_coefficients(rest), Fraction(0)] for rest in others), _coefficients(finite)]
    g = [_powers(p, TAPS, _value(rest, p)) for p, rest in zip(finite, others)]
    a = [_powers(p, side, Fraction(1)) for p in finite]
    tall = [_frozen(b)] + [_frozen([*rows, _highest(len(rows[0]))]) for rows in (g, a)]
    return Matrices(*tall, *(_frozen(zip(*tall[i])) for i in (0, 1, 2)))


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the product of (t - root), the lowest power first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


def _value(roots: Sequence[Fraction], t: Fraction) -> Fraction:
    """Of the product of (t - root)."""
    return sum((c * t**k for k, c in enumerate(_coefficients(roots))), Fraction(0))


def _powers(p: Fraction, n: int, divisor: Fraction) -> list[Fraction]:
    return [p**k / divisor for k in range(n)]


def _highest(n: int) -> list[Fraction]:
    """The row of the point at infinity."""
    return [Fraction(int(k == n - 1)) for k in range(n)]


def _frozen(rows) -> Matrix:
    return tuple(tuple(row) for row in rows)
