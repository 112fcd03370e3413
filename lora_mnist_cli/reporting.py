"""What a stage tells while it works. It says it here; who shows it, and where, is the caller's business."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """The ear of a stage."""

    def notice(self, text: str) -> None:
        """Something worth knowing: which artifact was taken, that work is up to date."""

    def detail(self, text: str) -> None:
        """Something for those who want to know more: what trains, and where."""

    def warn(self, text: str) -> None:
        """Something that the user may not have meant."""

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Training starts: so many epochs, of so many optimiser steps each; a bank's seeds add up."""

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """So many more steps are done, in this epoch (from 1); ``loss`` is the last batch's, a bank's the mean."""

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """An epoch is done and scored; None without a validation split. A bank tells the mean of its members."""

    def end(self) -> None:
        """Training ended, for whatever reason."""


class Silent:
    """A reporter that keeps everything to itself."""

    def notice(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def begin(self, title: str, epochs: int, steps: int) -> None: ...

    def advance(self, steps: int, epoch: int, loss: float) -> None: ...

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None: ...

    def end(self) -> None: ...
