"""Several runs side by side: in one box, by seed, and as a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.front import Front, box, hypervolume
from nas.objective import goals, minimised
from nas.report import data
from nas.report.curves import label
from nas.report.ledger import ledger
from nas.report.markup import Html, counted, duration, note, number, section, table
from nas.report.page import front_section, page, volume_section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.result import Result

COUNTS = ("trials", "evaluated", "reused", "failed", "front", "wall_seconds", "device_seconds")
"""What is counted of each run, beside its seed, hypervolume and best values."""
NOTED = ("space", "data", "target", "evaluators", "task", "baseline")
"""Settings that, where they differ, make values of different runs hard to compare."""


@final
@dataclass(frozen=True)
class Row:
    """One run's figures.

    Attributes:
        name: of its folder.
        seed: of the run.
        figures: counts, ``hypervolume`` in the common box, and ``best <metric>`` of each goal; NaN where
            the front is empty.
        setting: everything that decides on the result but the seed, as JSON.
    """

    name: str
    seed: int
    figures: Mapping[str, float]
    setting: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"run": self.name, "seed": self.seed, **self.figures}


@final
@dataclass(frozen=True)
class Group:
    """Runs of one setting that differ in seed.

    Attributes:
        runs: their names.
        seeds: how many.
        mean, spread: of each figure; the spread is the standard deviation over runs, n - 1 in its divisor.
    """

    runs: Sequence[str]
    seeds: int
    mean: Mapping[str, float]
    spread: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"runs": list(self.runs), "seeds": self.seeds, "mean": self.mean, "std": self.spread}


@final
@dataclass(frozen=True)
class Comparison:
    """Runs of the same objectives.

    Attributes:
        rows: a run each, in the order given.
        groups: of two or more runs.
        differences: settings other than strategy and seed in which runs differ.
    """

    rows: Sequence[Row]
    groups: Sequence[Group]
    differences: Sequence[str]


def compare(results: Sequence[Result]) -> Comparison:
    """Put runs side by side.

    Raises:
        BadInput: there are none, or two have different objectives.
    """
    check_comparable(results)
    names = _names(results)
    fronts = [r.front() for r in results]
    corners = common_box(fronts)
    rows = [_row(n, r, f, corners) for n, r, f in zip(names, results, fronts, strict=True)]
    return Comparison(rows, _groups(rows), _differences(results, names))


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse runs whose objectives differ.

    Raises:
        BadInput: naming the first difference.
    """
    if not results:
        raise must("RUN", "be given at least once", "none")
    first = results[0]
    wanted = [str(o) for o in first.parts.objectives]
    for other in results[1:]:
        theirs = [str(o) for o in other.parts.objectives]
        here = [text for text in wanted if text not in theirs]
        there = [text for text in theirs if text not in wanted]
        if here or there:
            raise must(
                f"objectives of {other.words}",
                f"be those of {first.words} ({', '.join(here) or 'nothing more'})",
                ", ".join(there) or "nothing for it",
            )


def common_box(fronts: Sequence[Front]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Best and worst corner over everything feasible in any of the runs; None where nothing is."""
    points = [minimised([m.values for m in f.candidates], f.objectives) for f in fronts if f]
    return box(np.vstack(points)) if points else None


def _names(results: Sequence[Result]) -> list[str]:
    """The runs' own names, or what a command line names them by where two share one."""
    names = [r.folder.name for r in results]
    return names if len(set(names)) == len(names) else [r.words for r in results]


def _row(
    name: str, result: Result, front: Front, corners: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> Row:
    books = ledger(result.history.trials)
    device = books.busy + books.lost
    counts = (
        books.trials, books.evaluated, books.reused, books.failures, len(front), books.evaluating, device
    )  # fmt: skip
    figures: dict[str, float] = dict(zip(COUNTS, counts, strict=True))
    low, high = corners if corners is not None else (0.0, 1.0)
    figures["hypervolume"] = hypervolume((front.points - low) / (high - low)) if front else 0.0
    for o in goals(front.objectives):
        figures[f"best {o.metric}"] = front.best(o.metric).values[o.metric] if front else float("nan")
    return Row(name, result.parts.search.seed, figures, _setting(result))


def _identity(result: Result) -> dict[str, Any]:
    path = result.folder / "run.json"
    identity: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["identity"] if path.is_file() else {}
    )
    return identity


def _setting(result: Result) -> str:
    identity = {key: value for key, value in _identity(result).items() if key != "seed"}
    return json.dumps([identity, repr(result.parts.search.budget)], sort_keys=True)


def _groups(rows: Sequence[Row]) -> list[Group]:
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)
    found = []
    for group in by_setting.values():
        seeds = len({row.seed for row in group})
        if seeds < 2:
            continue
        table = {key: np.array([row.figures[key] for row in group]) for key in group[0].figures}
        found.append(
            Group(
                [row.name for row in group],
                seeds,
                {key: float(values.mean()) for key, values in table.items()},
                {key: float(values.std(ddof=1)) for key, values in table.items()},
            )
        )
    return found


def _differences(results: Sequence[Result], names: Sequence[str]) -> list[str]:
    identities = [_identity(r) for r in results]
    found = []
    for key in NOTED:
        for name, identity in zip(names[1:], identities[1:], strict=True):
            if identity.get(key) != identities[0].get(key):
                found.append(f"{key} of {name} differs from that of {names[0]}")
    return found


# --- the page --------------------------------------------------------------------------------------------


def comparison_page(results: Sequence[Result]) -> str:
    """Fronts and hypervolumes of runs, one over the other.

    Raises:
        BadInput: as `compare`.
    """
    comparison = compare(results)
    fronts = [r.front() for r in results]
    corners = common_box(fronts)
    found = [data.measured(r.history.trials, f.objectives) for r, f in zip(results, fronts, strict=True)]
    axes = data.metrics(found, fronts[0].objectives)
    runs = [
        data.run(row.name, r.history.trials, f, i, corners)
        for i, (row, r, f) in enumerate(zip(comparison.rows, results, fronts, strict=True))
    ]
    unit = data.timed(runs)
    shown = {"metrics": axes, "goals": len(goals(fronts[0].objectives)), "runs": runs, "time_unit": unit}
    lead = "Fronts of all runs; paler points are what else was feasible. Point at one to see its choices."
    thinned = max(r["volume"]["every"] for r in runs)
    about = "Share of one box around everything feasible in any of the runs." + (
        f" Up to one step in {thinned} is drawn." if thinned > 1 else ""
    )
    parts = [
        _table(comparison),
        front_section([str(axis["label"]) for axis in axes], lead),
        volume_section(note(about), timed=bool(unit)),
    ]
    objectives = ", ".join(map(str, fronts[0].objectives))
    return page(f"{counted(len(results), 'run')} compared", objectives, [], parts, shown)


def _table(comparison: Comparison) -> Html:
    rows = [[row.name, str(row.seed), *figures(row.figures)] for row in comparison.rows]
    for group in comparison.groups:
        rows.append([f"mean of {group.seeds} seeds", "", *figures(group.mean)])
        rows.append(["± standard deviation", "", *figures(group.spread)])
    return section("Runs", table(header(comparison), rows), *map(note, remarks(comparison)), name="runs")


def header(comparison: Comparison) -> list[str]:
    """Names of the columns."""
    return ["run", "seed", *(_column(key) for key in comparison.rows[0].figures)]


def figures(values: Mapping[str, float]) -> list[str]:
    """Cells of a row."""
    return [
        duration(v) if k.endswith("_seconds") else f"{v:.4f}" if k == "hypervolume" else number(v)
        for k, v in values.items()
    ]


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the table should know."""
    found = [f"{text}: values may not be comparable." for text in comparison.differences]
    if not comparison.groups:
        found.append("No two runs share a config and differ in seed, so no spread over seeds is known.")
    return found


def _column(key: str) -> str:
    if key.startswith("best "):
        return "best " + label(key.removeprefix("best "))
    return {"wall_seconds": "wall time", "device_seconds": "device time"}.get(key, key)
