"""What happened so far, on its way to the history, the log and the checkpoints."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from diffcompare.learn import checkpoint, history
from diffcompare.learn.history import Epoch, History

State = TypeVar("State")


@dataclasses.dataclass
class Journal:
    """The epochs so far, and where they are kept."""

    samples: int  # in an epoch
    log: Path | None
    folder: Path | None  # of checkpoints
    save_every: int
    conditions: Mapping[str, Any]  # see `checkpoint.save`
    epochs: list[Epoch] = dataclasses.field(default_factory=list)
    compile_seconds: float = 0.0

    def begin(self, state: State, epochs: int) -> State:
        """Returns the state to start from: that of the newest checkpoint, where there is one."""
        saved = self.folder and checkpoint.load(self.folder, state, self.conditions)
        if saved:
            state, self.epochs = saved
        if len(self.epochs) > epochs:
            raise ValueError(
                f"epochs must be at least {len(self.epochs)}, which the checkpoint in "
                f"{self.folder} has, but it is {epochs}. Ask for as many, or give another folder."
            )
        if self.log is not None and jax.process_index() == 0:
            history.write_lines(self.log, self.epochs)
        return state

    def add(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if self.log is not None and jax.process_index() == 0:
            history.append_line(self.log, len(self.epochs) - 1, epoch)

    def save(self, state: State, is_last: bool) -> None:
        if self.folder is not None and (is_last or len(self.epochs) % self.save_every == 0):
            checkpoint.save(self.folder, state, self.epochs, self.conditions)

    def line(self) -> str:
        return self.epochs[-1].line(self.samples)

    def history(self) -> History:
        return history.history(self.epochs, self.samples, self.compile_seconds)
