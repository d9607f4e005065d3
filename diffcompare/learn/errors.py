"""The errors of the learning room."""

from typing import Any


class DataError(ValueError):
    """A data set is there and cannot be used: truncated, altered, or of another format."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A data set was found in none of the places that were searched."""


class DivergenceError(FloatingPointError):
    """The loss became infinite or NaN during training.

    Nothing that was learned is lost: the error carries it.

    Attributes:
        step: The step whose loss was not finite, counted from 0 over all epochs.
        params: The parameters at the start of the epoch of that step.
        history: The history of the epochs before it.
    """

    def __init__(self, message: str, *, step: int, params: Any, history: Any):
        super().__init__(message)
        self.step = step
        self.params = params
        self.history = history


class CheckpointError(RuntimeError):
    """A checkpoint was truncated or altered, or cannot be read. It was not used."""
