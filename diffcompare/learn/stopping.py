"""When training has gone on for long enough."""

import dataclasses
from typing import Literal

import numpy as np

from diffcompare.learn.history import History


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Ends training when a metric has not improved for some epochs; for `stop` of `fit`.

    Attributes:
        metric: The name of a metric, or "loss" for that of the training batches.
        patience: How many epochs it may go without becoming better than ever before.
        mode: Whether a smaller metric ("min") or a larger one ("max") is better.

    Example:
        >>> EarlyStopping("accuracy", patience=3, mode="max")
        EarlyStopping(metric='accuracy', patience=3, mode='max')
    """

    metric: str
    patience: int = 5
    mode: Literal["min", "max"] = "min"

    def __post_init__(self):
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, but it is {self.patience}.")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', but it is {self.mode!r}.")

    def __call__(self, history: History) -> bool:
        known = {"loss": history.loss, **history.metrics}
        if self.metric not in known:
            raise ValueError(
                f"metric must be one of {', '.join(map(repr, known))}, but it is {self.metric!r}. "
                "Return it from metrics."
            )
        values = known[self.metric] if self.mode == "min" else -known[self.metric]
        # A NaN is never the best.
        best = int(np.argmin(np.where(np.isnan(values), np.inf, values)))
        return len(values) - 1 - best >= self.patience
