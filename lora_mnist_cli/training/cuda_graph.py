"""One recorded graph in place of many small launches, on a GPU.

A step of a small network is some forty operations, and a GPU finishes each faster than Python can launch the next. A
step that always does the same operations, on memory that stays where it is, is recorded once as a CUDA graph and then
launched as one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

EAGER_CALLS = 20
"""Calls before a recording. A recording costs as much as a few hundred steps, so rare work, like an epoch's short last
batch, is not worth one. The calls also give libraries time to make their caches, which a recording must not contain."""


class GraphedStep:
    """Work that repeats, recorded after :data:`EAGER_CALLS` calls and replayed from then on.

    Each call does the work once, recorded or not, with the same numbers.

    Args:
        work: launches operations on one CUDA device, on the tensors that it is called with. It draws no random numbers
            and waits for nothing, and its operations and the other memory that they use never change.
        like: tensors with the shape, type and device of the inputs. Each call copies its inputs to where the work
            always finds them.
    """

    def __init__(self, work: Callable[..., object], *like: Tensor) -> None:
        self._inputs = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in like]
        self._work, self._calls = partial(work, *self._inputs), 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """Do the work on these inputs."""
        for place, each in zip(self._inputs, inputs, strict=True):
            place.copy_(each)
        if self._graph is None and self._calls < EAGER_CALLS:
            self._calls += 1
            self._work()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._work()
        self._graph.replay()
