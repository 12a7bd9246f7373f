"""Latency on a new device, for spaces with a table: from a few measured networks and the table's devices."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from nas.architecture import Architecture
from nas.errors import BadInput, must, unknown_metric
from nas.estimators.tabular import absent, check_space
from nas.evaluator import Evaluator, check_measured
from nas.kernels.device_prior import Sources
from nas.kernels.transfer import Transfer
from nas.proposal import Failure, Measurement, Outcome, Proposal
from nas.rng import stream
from nas.table import ROW, Column, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nas.space import Space

LATENCY = "latency_ms"
"""What the columns of devices end with, and what a measured network has."""


@final
class LatencyTransferred(Evaluator):
    """Predicts ``latency_ms`` on a device on which 5 to 100 networks were measured.

    ``latency_ms_low`` and ``latency_ms_high`` are the ends of its interval. Other devices, whose latencies
    the table holds for all networks, tell what differs between networks; the measured ones tell what is
    different here (`nas.kernels.transfer`). Everything is a function of the table, the measurements and
    ``seed``. A network for which a source device has no latency fails.

    Args:
        space: with the table's decisions, or its rows.
        table: file, or ``synthetic``.
        measured: file (csv, or json with a list), or the list itself, of networks with ``latency_ms``: in a
            csv a column a decision, in a list ``{architecture: {…}, latency_ms: …}``; ``row`` may stand for
            the decisions. At least two networks.
        sources: columns of the table; all that end with ``latency_ms`` when None.
        families: by column, devices that are of one kind; else a column's name up to ``_batch``. Of two
            families at least one must be left when one is taken out.
        level: probability of the interval, between 0 and 1.
        seed: of what the prior is learnt from.

    Raises:
        BadInput: a setting is out of range, the file cannot be read, a network is not in the table, or the
            table holds too few devices.
    """

    metrics = frozenset({LATENCY, f"{LATENCY}_low", f"{LATENCY}_high"})
    cheap = metrics
    predicted = metrics
    batched: ClassVar[bool] = True
    builds: ClassVar[bool] = False

    def __init__(
        self,
        space: Space,
        table: str | Path | Table,
        measured: str | Path | Sequence[Mapping[str, Any]],
        sources: Sequence[str] | None = None,
        families: Mapping[str, str] | None = None,
        level: float = 0.9,
        seed: int = 0,
    ) -> None:
        self.table = table if isinstance(table, Table) else Table.open(table)
        self._by_row = check_space(space, self.table)
        names = self._sources(sources)
        latency = np.stack([self.table.values(n) for n in names], axis=1).astype(np.float64)
        told = np.flatnonzero(np.isfinite(latency).all(axis=1))
        position = np.full(self.table.size, -1)
        position[told] = np.arange(len(told))
        kinds = [(families or {}).get(n, re.sub(r"_batch\d+", "", n)) for n in names]
        encodings, counts = _features(self.table)
        known = Sources(latency[told], kinds, encodings[told], counts[told])
        nets, ms = self._measured(measured)
        if (position[nets] < 0).any():
            raise must("measured", "be networks that every source has a latency of", "others", "drop them")
        found = Transfer(known, stream(seed, "latency transferred")).predict(
            position[nets].tolist(), ms, level=level
        )
        self._values = np.full((self.table.size, 3), np.nan)
        self._values[told] = np.stack([found.ms, found.low_ms, found.high_ms], axis=1)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:  # noqa: ARG002 - drawn once
        """Look the predictions up.

        Raises:
            UnknownMetric: a metric is not one of these.
            BadInput: a candidate is no architecture of the space.
        """
        return [self._one(proposal) for proposal in proposals]

    def _one(self, proposal: Proposal) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        if not isinstance(proposal.candidate, Architecture):
            raise must("a candidate", "be an architecture to be looked up", proposal.candidate)
        row = self._row(proposal.candidate)
        if row < 0:
            return Failure("error", absent(self.table, proposal.candidate))
        ms, low, high = self._values[row].tolist()
        if ms != ms:
            return Failure("error", f"{proposal.candidate!r} has no latency on one of the source devices")
        values = {LATENCY: ms, f"{LATENCY}_low": low, f"{LATENCY}_high": high}
        return Measurement({m: values[m] for m in proposal.metrics})

    def _row(self, architecture: Architecture) -> int:
        if self._by_row:
            return int(architecture[ROW])
        return int(self.table.rows([architecture])[0])

    def _sources(self, given: Sequence[str] | None) -> list[str]:
        there = [n for n, m in self.table.metrics.items() if n.endswith(LATENCY) and m.nature == "static"]
        for name in given or ():
            if name not in there:
                raise unknown_metric(name, there).at("sources")
        return list(given or there)

    def _measured(self, given: str | Path | Sequence[Mapping[str, Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows of the table and milliseconds."""
        entries = _entries(Path(given)) if isinstance(given, str | Path) else list(given)
        rows, ms = [], []
        for i, entry in enumerate(entries):
            try:
                rows.append(self._measured_row(entry))
                ms.append(float(entry[LATENCY]))
            except (KeyError, TypeError, ValueError) as error:
                said = error.message if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
                remedy = f"give its decisions, or its row, and {LATENCY}"
                raise must(f"measured network {i}", "be in the table", said, remedy) from error
        if len(set(rows)) != len(rows):
            raise must("measured", "name each network once", "one twice", "give the median of its readings")
        return np.array(rows, dtype=np.int64), np.array(ms)

    def _measured_row(self, entry: Mapping[str, Any]) -> int:
        if ROW in entry:
            row = int(entry[ROW])
            self.table.choices(row)  # refuses what is out of range
            return row
        choices = entry.get("architecture", entry)
        values = {c.name: _option(c, choices[c.name]) for c in self.table.columns if c.name in choices}
        (row,) = self.table.rows([Architecture(values)])
        if row < 0:
            raise must("an architecture", f"be a row of {self.table.name}", dict(values))
        return int(row)


def _option(column: Column, given: Any) -> Any:
    """The value that a file's text or number stands for."""
    return next((o for o in column.options if o == given or str(o) == str(given)), given)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        if path.suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            with path.open(newline="", encoding="utf-8") as file:
                found = [
                    {k: v for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)
                ]
    except (OSError, ValueError) as error:
        raise must("measured", "be a csv or json file that can be read", str(path), str(error)) from error
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise must("measured", "hold a list of networks", type(found).__name__)
    return found


def _features(table: Table) -> tuple[NDArray[Any], NDArray[Any]]:
    """Decisions as one-hot columns or numbers in [0, 1]; how often each option of alike decisions occurs."""
    columns: list[NDArray[Any]] = []
    counts: dict[tuple[str, str], NDArray[Any]] = {}
    for column in table.columns:
        values = table.column(column.name)
        if not column.options:
            numbers = np.nan_to_num(np.asarray(values, dtype=np.float64))
            columns.append((numbers - numbers.min()) / max(float(np.ptp(numbers)), 1e-12))
            continue
        kind = re.sub(r"\d+", "*", column.name)
        for code, option in enumerate(column.options):
            hot = (values == code).astype(np.float64)
            columns.append(hot)
            key = (kind, str(option))
            counts[key] = counts[key] + hot if key in counts else hot
    there = np.stack(columns, axis=1)
    return there, np.stack(list(counts.values()), axis=1) if counts else there
