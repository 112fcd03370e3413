"""Transfer between the tasks of a chain, from the matrix R of accuracies. No torch.

``R[i][j]`` is the test accuracy on task j once tasks 0 to i are learned. Three measures are those of GEM (Lopez-Paz and
Ranzato 2017, arXiv:1706.08840, §2). The fourth is the forgetting of Chaudhry et al. 2018 (arXiv:1801.10112), which
compares with the best accuracy ever reached; backward transfer compares with the accuracy when the task was learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Transfer:
    """The measures of one chain, as fractions: ACC, BWT, FWT, forgetting, and the mean accuracy so far after each task.

    BWT is negative where earlier tasks were forgotten. The middle three are None for a single task.
    """

    accuracy: float
    backward: float | None
    forward: float | None
    forgetting: float | None
    so_far: tuple[float, ...]


def transfer(R: Matrix, untrained: Sequence[float]) -> Transfer:
    """Compute the measures of a chain of n tasks.

    ``ACC = mean_j R[n-1][j]``, ``BWT = mean_{j<n-1} (R[n-1][j] − R[j][j])``,
    ``FWT = mean_{j>0} (R[j-1][j] − untrained[j])``, ``forgetting = mean_{j<n-1} max_{i<n-1} (R[i][j] − R[n-1][j])``.

    Chaudhry et al. take the maximum over all earlier states of the network, also those before the task was learned.
    ``R`` is n × n, and ``untrained`` has the n accuracies of the untrained network.

    Raises:
        ValueError: where the matrix is not square, the vector does not fit it, or an accuracy is not finite.
    """
    n = len(R)
    if not n or any(len(row) != n for row in R) or len(untrained) != n:
        sizes = f"{n} rows of {sorted({len(row) for row in R})} and {len(untrained)} untrained"
        raise ValueError(f"a chain of n tasks has n × n accuracies and n of the untrained network, not {sizes}")
    if not all(math.isfinite(value) for row in (*R, untrained) for value in row):
        raise ValueError("an accuracy is no finite number")
    last, earlier = R[-1], range(n - 1)
    return Transfer(
        accuracy=math.fsum(last) / n,
        backward=_mean([last[j] - R[j][j] for j in earlier]),
        forward=_mean([R[j - 1][j] - untrained[j] for j in range(1, n)]),
        forgetting=_mean([max(R[i][j] for i in earlier) - last[j] for j in earlier]),
        so_far=tuple(math.fsum(R[i][: i + 1]) / (i + 1) for i in range(n)),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
