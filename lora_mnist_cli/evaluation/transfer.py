"""What a chain of tasks gains and loses, from the matrix R of accuracies alone. No torch.

``R[i][j]`` is the test accuracy on task j once tasks 0 to i are learned. Three measures are those of GEM (Lopez-Paz and
Ranzato 2017, arXiv:1706.08840, §2), the fourth is the forgetting of Chaudhry et al. 2018 (arXiv:1801.10112), which
looks at the best that was ever reached where backward transfer looks at what was reached when the task was learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Transfer:
    """The measures of one chain; all are differences or means of accuracies, as fractions.

    Args:
        accuracy: ACC, the mean over all tasks after the last.
        backward: BWT, how much learning later tasks changed earlier ones, on average; negative where they were
            forgotten. None for a single task, and so are the next two.
        forward: FWT, how much better than a network that learned nothing a task is known before its turn, on average.
        forgetting: how far earlier tasks have fallen from the best they ever had, on average.
        so_far: after each task, the mean accuracy over the tasks up to it.
    """

    accuracy: float
    backward: float | None
    forward: float | None
    forgetting: float | None
    so_far: tuple[float, ...]


def transfer(R: Matrix, untrained: Sequence[float]) -> Transfer:
    """The measures of a chain of n tasks.

    ``ACC = mean_j R[n-1][j]``, ``BWT = mean_{j<n-1} (R[n-1][j] − R[j][j])``,
    ``FWT = mean_{j>0} (R[j-1][j] − untrained[j])``, ``forgetting = mean_{j<n-1} max_{i<n-1} (R[i][j] − R[n-1][j])``.

    Chaudhry et al. take the maximum over all earlier states of the network, those before the task's turn included.

    Args:
        R: n × n.
        untrained: n, the accuracy on each task of the network before it learned any.

    Raises:
        ValueError: where the matrix is not square, the vector does not fit it, or something is no finite number.
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
