"""Metrics of one probe: values, what is missing and why, and the seconds of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from nas.errors import BadInput
from nas.estimators.proxies.probe import Probe, Undefined

if TYPE_CHECKING:
    from nas.estimators.proxies import Metric


@final
@dataclass(frozen=True, slots=True)
class Scores:
    """What metrics of a module are.

    Args:
        values: by name; NaN where one is missing.
        missing: reasons, one line each.
        seconds: by metric, with its share of the passes that it shared with others.
    """

    values: Mapping[str, float]
    missing: Mapping[str, str]
    seconds: Mapping[str, float]


def scores(probe: Probe, metrics: Mapping[str, Metric]) -> Scores:
    """Compute metrics one after the other; one that fails does not keep the others from theirs.

    Raises:
        BadInput: the task cannot give such batches, or a metric does not return what it should.
    """
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, metric in metrics.items():
        wanted = metric.components or (name,)
        try:
            with probe.ledger.spending(name), probe.untouched():
                found = _numbers(metric.load()(probe), wanted)
        except BadInput:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, Undefined) else f"{type(error).__name__}: {error}"
            found = dict.fromkeys(wanted, math.nan)
            missing.update(dict.fromkeys(wanted, _line(reason)))
        for value, number in found.items():
            finite = math.isfinite(number)
            values[value] = number if finite else math.nan
            if not finite:
                missing.setdefault(value, f"it must be finite, got {number}")
    return Scores(values, missing, {name: probe.ledger.seconds(name) for name in metrics})


def _numbers(result: float | Mapping[str, float], wanted: tuple[str, ...]) -> dict[str, float]:
    """A metric's values by name."""
    if not isinstance(result, Mapping):
        result = {wanted[0]: result}
    if set(result) != set(wanted):
        raise TypeError(f"a metric must give {', '.join(wanted)}, got {', '.join(map(str, result))}")
    return {name: float(result[name]) for name in wanted}


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
