"""Parts of a page that account for a run: time, failures, reuse, where everything comes from."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nas.report.curves import label
from nas.report.ledger import bill, failure_groups
from nas.report.markup import Html, counted, duration, joined, note, number, section, share, table, tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nas.budget import Price
    from nas.front import Front
    from nas.report.ledger import Ledger
    from nas.result import Result

GROUPS = 20
"""Reasons of failures that are listed."""
SETTINGS = ("strategy", "evaluators", "task", "target", "memo", "baseline", "batch")
REPEATABLE: Mapping[Any, str] = {True: "yes", False: "no"}


def time(books: Ledger, price: Price | None) -> Html:
    """Device time and wall time, spent and lost, and what that costs."""
    spent = [
        ("c0", "search evaluations that gave a measurement", books.searching),
        ("c1", "measuring the front again", books.confirming),
        ("c2", "the baseline", books.baseline),
        ("c3", "evaluations that failed", books.failed),
        ("c3", "attempts that were lost and made again", books.lost),
    ]
    whole = books.used
    bar = tag("div", *(tag("div", class_=c, style=f"width:{100 * s / whole:.2f}%") for c, _, s in spent if s),
              class_="bar") if whole else Html("")  # fmt: skip
    rows = [
        [joined([tag("span", class_=f"key {color}"), what]), duration(seconds), share(seconds, whole)]
        for color, what, seconds in spent
    ]
    rows.append(["device time in all", duration(whole), share(whole, whole)])
    wall = [
        ["from the first proposal to the last answer", duration(books.wall), share(books.wall, books.wall)],
        ["something was being evaluated", duration(books.evaluating), share(books.evaluating, books.wall)],
        [
            "nothing was: driver, storage, pauses between sessions",
            duration(books.waiting), share(books.waiting, books.wall),
        ],
    ]  # fmt: skip
    said = note(
        f"Evaluations themselves reported {duration(books.reported)}, which is simulated time for tables. "
        f"{counted(books.retried, 'trial')} took more than one attempt. In all: {bill(books, price)}."
    )
    return section(
        "Time spent and lost", bar, tag("div", table(["device time", "", "share"], rows),
        table(["wall time", "", "share"], wall), class_="pair"), said, name="time",
    )  # fmt: skip


def failures(result: Result) -> Html:
    """Failures by reason, with the last lines of a log each."""
    groups = failure_groups(result.history.trials, result.folder / "logs")
    if not groups:
        return section("Failures", note("No evaluation failed."), name="failures")
    inner = []
    for group in groups[:GROUPS]:
        shown = ", ".join(map(str, group.trials[:5])) + (", …" if len(group.trials) > 5 else "")
        title = joined([f"{counted(len(group.trials), 'trial')}, {group.kind}: ", tag("code", group.reason)])
        inner += [tag("h3", title), note(f"trials {shown}; {duration(group.seconds)}")]
        if group.excerpt:
            inner.append(
                tag("details", tag("summary", f"log of trial {group.trials[0]}"), tag("pre", group.excerpt))
            )
    if len(groups) > GROUPS:
        inner.append(note(f"The {GROUPS} most frequent of {len(groups)} reasons are listed."))
    inner.append(note("Reasons that differ in figures only are counted together; the first one is shown."))
    return section("Failures", *inner, name="failures")


def training(result: Result) -> Html | None:
    """What shared weights were trained on before the search; None where nothing was."""
    rows: list[list[str]] = []
    for stage in result.parts.stages:
        tally = stage.tally()
        if tally is None:
            rows.append([stage.label, "not begun", "", "", ""])
            continue
        ends = [number(tally.losses[0]), number(tally.losses[-1])] if tally.losses else ["", ""]
        paths, seconds = tally.used["trials"], tally.used["wall_seconds"]
        rows.append([stage.label, f"{paths:,.0f}", f"{tally.skipped:,}", " → ".join(ends), duration(seconds)])
    if not rows:
        return None
    header = ["strategy", "paths trained", "skipped", "loss", "time"]
    lead = "One set of weights was trained for all architectures; scores were inherited from it."
    return section("Training of shared weights", table(header, rows), note(lead), name="training")


def reuse(result: Result, front: Front, books: Ledger) -> Html:
    """What was answered without evaluating, and what was measured again."""
    memo = result.parts.search.memo
    name = memo.get("key", "functional") if isinstance(memo, dict) else memo
    rows = [
        ["proposals", f"{books.trials:,}", ""],
        ["evaluated", f"{books.evaluated:,}", share(books.evaluated, books.trials)],
        ["of these, a part of the answer was known", f"{books.partly:,}", share(books.partly, books.trials)],
        ["answered without evaluating", f"{books.reused:,}", share(books.reused, books.trials)],
        ["failed", f"{books.failures:,}", share(books.failures, books.trials)],
    ]  # fmt: skip
    again = sorted({metric for m in front for metric in m.confirmed})
    lines = [f"Answers were shared by the key {name}."]
    if books.confirmed:
        confirmed = sum(bool(m.confirmed) for m in front)
        what = ", ".join(map(label, again)) or "metrics"
        lines.append(
            f"{counted(books.confirmed, 'measurement')} after the search; {what} of {confirmed} of "
            f"{counted(len(front), 'member')} of the front were measured again."
        )
    else:
        lines.append("The front was not measured again after the search.")
    return section(
        "Reused and confirmed", table(["", "trials", "share"], rows), *map(note, lines), name="reuse"
    )


def provenance(result: Result) -> Html:
    """Settings, versions, machine and data."""
    path = result.folder / "run.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    identity, machine = known.get("identity", {}), known.get("machine", {})
    search = result.parts.search
    devices = sorted({f"{t.device} on {t.host}" for t in result.history.trials if t.host})
    rows = [
        ("run", result.folder.name),
        ("seed", search.seed),
        ("budget", ", ".join(f"{k} {number(v)}" for k, v in asdict(search.budget).items() if v is not None)),
        *((name, _plain(identity[name])) for name in SETTINGS if identity.get(name) is not None),
        ("space fingerprint", identity.get("space", result.parts.space.signature)),
        ("data fingerprint", identity.get("data") or "none"),
        ("started on", ", ".join(f"{k} {v}" for k, v in machine.items()) or "not recorded"),
        ("threads", known.get("threads", "not recorded")),
        ("evaluated on", ", ".join(devices) or "not recorded"),
        ("versions", ", ".join(f"{k} {v}" for k, v in known.get("versions", {}).items()) or "not recorded"),
        ("repeatable data", REPEATABLE.get(known.get("repeatable"), "not recorded")),
    ]  # fmt: skip
    return section("Provenance", table(["", ""], rows, class_="text"), name="provenance")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
