"""Winograd's minimal filtering: the three transforms of F(4 x 4, 3 x 3), derived and factored.

One output of a 3-tap filter costs three multiplications; four neighbouring ones cost six instead
of twelve, because they are the coefficients of a product of polynomials, and a product of degree
five is known from its values at six points (Toom 1963, Cook 1966; Winograd 1980 shows that fewer
do not do). With the filter g, the data d and the outputs y,

    y = A^T [(G g) * (B^T d)]            and in two dimensions
    Y = A^T [(G g G^T) * (B^T d B)] A,

where ``*`` multiplies element by element: 36 multiplications for 4 x 4 outputs instead of 144.
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015, arXiv 1509.09308)
is where convolutional networks come in: for many channels the element-wise products become 36
matrix products, and the cost of the transforms is shared by all of them.

Everything here is exact: matrices of :class:`fractions.Fraction`, derived from the points alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

Matrix = list[list[Fraction]]

OUTPUTS = 4
"""Outputs of a tile along one axis: m of F(m x m, 3 x 3)."""
TAPS = 3
TILE = OUTPUTS + TAPS - 1
"""Inputs that a tile's outputs depend on, along one axis; and the number of points."""
ELEMENTS = TILE * TILE

POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2))
"""Where polynomials are evaluated; infinity is the sixth. Small integers keep the transforms' own
rounding small, and pairs of opposite sign let half of their additions be shared."""
PAIRS = ((1, 2), (3, 4))
"""Positions of the points of opposite sign."""


def _times_root(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
    """Multiply a polynomial, its constant term first, by (x - root)."""
    raised = [Fraction(0), *polynomial]
    return [a - root * b for a, b in zip(raised, [*polynomial, Fraction(0)], strict=True)]


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    polynomial = [Fraction(1)]
    for root in roots:
        polynomial = _times_root(polynomial, root)
    return polynomial


def cook_toom(points: Sequence[Fraction] = POINTS) -> tuple[Matrix, Matrix, Matrix]:
    """Derive the transforms from the points of interpolation, to which infinity is added.

    The rows of ``B^T`` are the numerators of Lagrange's basis, those of ``G`` evaluate the filter
    and carry Lagrange's denominators, the columns of ``A^T`` are powers of the points. Infinity
    stands for the leading coefficient.

    Parameters
    ----------
    points : sequence of Fraction
        All different; one fewer than the inputs of a tile.

    Returns
    -------
    outputs, filters, inputs : list of list of Fraction
        ``A^T`` (m, n), ``G`` (n, 3) and ``B^T`` (n, n) for ``n = len(points) + 1`` and
        ``m = n - 2``.
    """
    size = len(points) + 1
    outputs = [[point**power for point in points] + [Fraction(0)] for power in range(size - 2)]
    outputs[-1][-1] = Fraction(1)
    filters, inputs = [], []
    for point in points:
        others = [other for other in points if other != point]
        below = prod((point - other for other in others), start=Fraction(1))
        filters.append([point**power / below for power in range(TAPS)])
        inputs.append([*_from_roots(others), Fraction(0)])
    filters.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    inputs.append(_from_roots(points))
    return outputs, filters, inputs


def factored(matrix: Matrix, pairs: Sequence[tuple[int, int]] = PAIRS) -> tuple[Matrix, Matrix]:
    """Write a matrix as a product of two that together take fewer additions.

    The rows of points p and -p agree where the power is even and differ in sign where it is odd.
    So their half sum and half difference are sparser than they are, and one addition each makes
    the rows of them.

    Parameters
    ----------
    matrix : list of list of Fraction, (n, k)
        Rows of a transform.
    pairs : sequence of (int, int)
        Rows that belong to opposite points.

    Returns
    -------
    second, first : list of list of Fraction, (n, n) and (n, k)
        ``matrix = second @ first``.
    """
    first = [list(row) for row in matrix]
    second = [[Fraction(int(i == j)) for j in range(len(matrix))] for i in range(len(matrix))]
    for one, other in pairs:
        for place, sign in ((one, 1), (other, -1)):
            row = [(a + sign * b) / 2 for a, b in zip(matrix[one], matrix[other], strict=True)]
            scale = min((abs(value) for value in row if value), default=Fraction(1))
            first[place] = [value / scale for value in row]
            second[one][place] = scale
            second[other][place] = sign * scale
    return second, first


def transposed(matrix: Matrix) -> Matrix:
    """Return the transpose."""
    return [list(column) for column in zip(*matrix, strict=True)]


OUTPUT, FILTER, INPUT = cook_toom()

INPUT_STAGES = factored(INPUT)[::-1]
"""``B^T`` as matrices to apply one after the other."""
OUTPUT_STAGES = tuple(transposed(stage) for stage in factored(transposed(OUTPUT)))
"""``A^T`` as matrices to apply one after the other."""
FILTER_STAGES = (FILTER,)
"""``G``; filters are transformed once, so nothing is saved there."""
