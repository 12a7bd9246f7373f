"""One run as a page that stands alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture
from nas.objective import goals, violations
from nas.report import data
from nas.report.accounts import failures, provenance, reuse, time, training
from nas.report.curves import label
from nas.report.honesty import findings
from nas.report.importance import ENOUGH, importances
from nas.report.ledger import ledger
from nas.report.markup import Html, counted, duration, note, number, section, table, tag
from nas.report.page import front_section, page, volume_section
from nas.report.picture import choices, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nas.front import Front, Member
    from nas.report.importance import Importance
    from nas.report.ledger import Ledger
    from nas.result import Result

PICTURES = 12
"""Members of the front that are drawn."""
FIRST, ROWS = 15, 200
"""Members of the front that are listed at once, and when asked for."""


def report(result: Result, against: Sequence[Result] = ()) -> str:
    """The page of a run, equal for equal trials.

    Args:
        result: the run.
        against: runs of the same objectives, such as a random search, to hold it against.
    """
    front, trials = result.front(), result.history.trials
    found = data.measured(trials, front.objectives)
    important = importances(found, result.parts.space, front.objectives, result.parts.search.seed)
    axes = data.metrics([found], front.objectives)
    data.relative_bounds(front, axes)
    runs = [data.run(result.folder.name, trials, front, 0)]
    unit = data.timed(runs)
    lines = data.parallel(front, trials, result.parts.space, important)
    shown = {
        "metrics": axes,
        "goals": len(goals(front.objectives)),
        "runs": runs,
        "time_unit": unit,
        "parallel": lines,
        "importance": data.importance(important),
    }
    books = ledger(trials)
    parts = [
        _front(result, front, axes, len(found)),
        volume_section(_volume_note(runs[0]["volume"]["every"]), timed=bool(unit)),
        _honest(result, against),
        _members(front),
        _pictures(result, front),
        *([_parallel(lines)] if lines else []),
        _importance(important),
        *([trained] if (trained := training(result)) is not None else []),
        time(books, result.parts.search.price),
        failures(result),
        reuse(result, front, books),
        provenance(result),
    ]
    return page(f"Search {result.folder.name}", _lead(result), _figures(result, front, books), parts, shown)


def _lead(result: Result) -> str:
    parts = result.parts
    size = parts.space.size
    many = "infinitely many" if size == float("inf") else _large(size)
    last = max((t.ended for t in result.history.trials), default=0.0)
    until = f" Last trial {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC." if last else ""
    wanted = ", ".join(map(str, parts.objectives))
    return f"{type(parts.space).__name__} with {many} architectures; {wanted}.{until}"


def _large(size: float) -> str:
    """An integer of any length, in letters that fit."""
    digits = str(int(size))
    return f"{int(size):,}" if len(digits) <= 15 else f"about {digits[0]}.{digits[1]}·10^{len(digits) - 1}"


def _figures(result: Result, front: Front, books: Ledger) -> list[tuple[str, str]]:
    found = [
        ("best " + label(o.metric), number(front.best(o.metric).values[o.metric]))
        for o in goals(front.objectives)
        if front
    ]
    return [
        *found,
        ("on the front", f"{len(front):,}"),
        ("trials", f"{books.trials:,}"),
        ("failed", f"{books.failures:,}"),
        ("reused", f"{books.reused:,}"),
        ("wall time", duration(books.evaluating)),
        ("seed", str(result.parts.search.seed)),
    ]


def _front(result: Result, front: Front, axes: Sequence[Mapping[str, Any]], measured: int) -> Html:
    lead = (
        f"{counted(len(front), 'architecture')} that nothing measured beats in every goal, "
        f"of {len(front.candidates):,} within the bounds and {measured:,} measured. "
        "Point at one to see its choices; drag to zoom."
    )
    return front_section([str(axis["label"]) for axis in axes], lead, *_missed(result, front))


def _missed(result: Result, front: Front) -> Iterator[Html]:
    """How many miss each bound."""
    rows = [m.values for m in data.measured(result.history.trials, front.objectives)]
    reference = None if front.baseline is None else front.baseline.values
    for o in front.objectives:
        if o.bound is None or (o.bound.relative and (reference is None or o.metric not in reference)):
            continue
        missed = int((violations(rows, [o], reference) > 0).sum())
        value = f" = {number(o.bound.value((reference or {}).get(o.metric)))}" if o.bound.relative else ""
        yield note(f"{label(o.metric)} {o.bound}{value}: missed by {missed:,} of {len(rows):,}.")


def _volume_note(every: int) -> Html:
    thinned = f" One step in {every} is drawn." if every > 1 else ""
    return note(
        "Share of the box between the best and the worst feasible values of this run that the front "
        "dominates. The box belongs to this run: compare runs with nas compare. The last values known of "
        f"each architecture are used throughout.{thinned}"
    )


def _honest(result: Result, against: Sequence[Result]) -> Html:
    inner = []
    for one in findings(result, against):
        inner += [tag("h3", one.about), *(tag("p", sentence) for sentence in one.sentences)]
        if one.command:
            inner.append(tag("pre", one.command))
    about = note("CONFIG.yaml stands for the config file that this run was started with.")
    return section(
        "What this does and does not show", tag("div", *inner, about, class_="honest"), name="honesty"
    )


def _members(front: Front) -> Html:
    if not front:
        return section("Members of the front", note("Nothing feasible was measured."), name="members")
    names = list(dict.fromkeys([o.metric for o in front.objectives] + sorted(front[0].values)))
    header = ["trial", *map(label, names)]
    rows = [[str(m.trial), *(_cell(m, n) for n in names)] for m in list(front)[:ROWS]]
    first = rows[:FIRST]
    if front.baseline is not None:
        first.insert(0, ["baseline", *(_cell(front.baseline, n) for n in names)])
    more: list[Html] = []
    if rows[FIRST:]:
        further = counted(len(rows) - FIRST, "further member")
        more.append(tag("details", tag("summary", further), table(header, rows[FIRST:])))
    more += [note(f"The first {ROWS} of {len(front)} are listed.")] if len(front) > ROWS else []
    if any(m.borrowed for m in front):
        more.append(note("* measured on an architecture that computes the same function"))
    return section("Members of the front", table(header, first), *more, name="members")


def _cell(member: Member, metric: str) -> str:
    return number(member.values.get(metric)) + ("*" if metric in member.borrowed else "")


def _pictures(result: Result, front: Front) -> Html:
    chosen = list(front)[:PICTURES]
    if len(front) > PICTURES:
        step = (len(front) - 1) / (PICTURES - 1)
        chosen = [front[round(i * step)] for i in range(PICTURES)]
    cards = [_card(result, m, front) for m in chosen]
    if front.baseline is not None and isinstance(front.baseline.candidate, Architecture):
        cards.append(_card(result, front.baseline, front, "baseline, "))
    about = (
        f"{PICTURES} of {len(front)} members of the front, evenly chosen." if len(front) > PICTURES else ""
    )
    return section("Architectures", tag("div", *cards, class_="cards"), note(about), name="architectures")


def _card(result: Result, member: Member, front: Front, prefix: str = "") -> Html:
    values = ", ".join(
        f"{label(o.metric)} {number(member.values.get(o.metric))}" for o in goals(front.objectives)
    )
    drawn = picture(result.parts.space, member.architecture)
    below = []
    if drawn.startswith("<svg"):
        below = [tag("details", tag("summary", "choices"), choices(member.architecture))]
    return tag(
        "div", tag("h3", f"{prefix}trial {member.trial}"), tag("div", values, class_="values"), drawn, *below,
        class_="card",
    )  # fmt: skip


def _parallel(lines: Mapping[str, Any]) -> Html:
    thinned = (
        f" {lines['lines']:,} of {lines['of']:,} architectures are drawn, evenly chosen, and the front."
        if lines["lines"] < lines["of"]
        else ""
    )
    fewer = (
        f" {lines['decisions']} of {lines['varied']} decisions that varied are shown, "
        "the most important ones where importance is known."
        if lines["decisions"] < lines["varied"]
        else ""
    )
    text = (
        "Darker lines are better in the first goal; lines through one option are drawn a little apart. "
        f"Drag along an axis to pick a range.{thinned}{fewer}"
    )
    plot = tag("div", tag("div", id="parallel-plot", class_="plot"), class_="wide")
    return section("Decisions and metrics", tag("p", text), plot, name="parallel")


def _importance(found: Sequence[Importance]) -> Html:
    if not found:
        text = f"Not computed: it takes {ENOUGH} measured architectures whose decisions and values differ."
        return section("Importance of decisions", note(text), name="importance")
    plots = (tag("div", id=f"importance-{i}", class_="plot low") for i in range(len(found)))
    most = max(len(one.shares) for one in found)
    cut = f" The first {data.BARS} of {most} are shown." if most > data.BARS else ""
    text = (
        "fANOVA: share of the variance that a decision explains by itself. PED-ANOVA (from 100 architectures "
        "on): how much its values among the best tenth differ from those among all that were measured. "
        "Both describe the architectures that this search chose to measure, not the space, and say nothing "
        f"of decisions that it hardly varied. An inactive decision counts as an option of its own.{cut}"
    )
    return section(
        "Importance of decisions", tag("div", *plots, class_="pair"), note(text), name="importance"
    )
