"""What a run can and cannot claim: chance, size, seeds, the grain of validation, the spread of clocks."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas import registry
from nas.errors import NasError
from nas.evaluator import Known
from nas.front import box, hypervolume, members, nondominated
from nas.objective import Objective, goals, minimised
from nas.proposal import Measurement
from nas.report.curves import candidates, label
from nas.report.markup import counted, number
from nas.report.statistics import best_of, spearman, spearman_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.front import Front, Member
    from nas.parts import Parts
    from nas.proposal import Trial
    from nas.result import Result

SIZES = ("params", "macs")
"""Costs by which anyone could choose without a search."""
SIZED = 60
"""Architectures whose costs are counted where the run did not measure them."""
FEW = 8
"""Architectures below which a rank correlation says nothing."""
POPULATIONS = ("evolution", "aging_evolution", "nsga2", "nsga3", "plus_evolution")
"""Strategies whose first ``population`` proposals are drawn at random."""


@final
@dataclass(frozen=True)
class Finding:
    """One sentence or a few under a heading.

    Attributes:
        about: the heading.
        sentences: each true of this run's own data.
        command: what would answer what the run cannot; empty where nothing would.
    """

    about: str
    sentences: Sequence[str]
    command: str = ""


def findings(result: Result, others: Sequence[Result] = ()) -> list[Finding]:
    """What a reader should know before believing the front.

    Args:
        result: the run.
        others: runs of the same objectives to hold it against, such as a random search.
    """
    front = result.front()
    if not front:
        return [Finding("The front", ["It is empty: nothing feasible was measured, so nothing is claimed."])]
    return [
        chance(result, front, others),
        size(result.parts, front),
        seeds(result),
        *grain(result.parts, front, result.words),
        *clocks(result.history.trials, front),
        *guesses(result.parts, front),
    ]


# --- random search ------------------------------------------------------------------------------------


def chance(result: Result, front: Front, others: Sequence[Result]) -> Finding:
    """The front against what was drawn at random."""
    searched = [t for t in result.history.trials if t.role == "search"]
    drawn = random_start(result.parts, len(searched))
    if drawn is None or drawn < len(searched):
        sentences = _beyond_chance(front, searched, drawn or 0)
    else:
        sentences = [f"This run is a random search: all {len(searched):,} proposals were drawn."]
    for other in others:
        sentences += against(result, other)
    command = "" if others or drawn == len(searched) else _random_command(result, len(searched))
    return Finding("Against random search", sentences, command)


def random_start(parts: Parts, trials: int) -> int | None:
    """How many of the first proposals were drawn at random; None where that is not known."""
    spec: Any = parts.search.strategy
    name, settings = (spec.get("name"), spec) if isinstance(spec, Mapping) else (spec, {})
    if parts.search.warm_start is not None:
        return None
    if name == "random":
        return trials
    if name not in POPULATIONS:
        return None
    default = inspect.signature(registry.load("strategy", name)).parameters["population"].default
    return min(trials, int(settings.get("population", default)))


def _beyond_chance(front: Front, searched: Sequence[Trial], drawn: int) -> list[str]:
    if not drawn:
        return [
            "Which of the proposals were drawn at random is not recorded, and no random search was given."
        ]
    first = {t.number for t in searched[:drawn]}
    random = [m for m in front.candidates if m.trial in first]
    sentences = [
        f"The first {drawn:,} of {len(searched):,} proposals were drawn at random; "
        f"{counted(len(random), 'architecture')} of these kept all bounds."
    ]
    for o in goals(front.objectives) if random else ():
        curve = best_of([o.minimised(m.values[o.metric]) for m in random])
        sign = -1.0 if o.goal == "max" else 1.0
        half = (len(curve) + 1) // 2
        sentences.append(
            f"{label(o.metric)}: best of {half} random {number(sign * curve[half - 1])} (expected), "
            f"best of all {len(curve)} random {number(sign * curve[-1])}, "
            f"best of the whole run {number(front.best(o.metric).values[o.metric])}."
        )
    sentences.append("The run had more trials than that, so this does not show that it beats random search.")
    return sentences


def against(result: Result, other: Result) -> list[str]:
    """The run and another one after equally many trials, in one box."""
    objectives = result.parts.objectives
    rows = [[t for t in r.history.trials if t.role == "search"] for r in (result, other)]
    n = min(map(len, rows))
    found = [_after(r, n) for r in (result, other)]
    points = [minimised([m.values for m in c], objectives) for c in found]
    if not all(map(len, points)):
        return [f"{other.folder.name}: after {n:,} trials one of the two has nothing feasible."]
    low, high = box(np.vstack(points))
    volumes = [hypervolume(((p - low) / (high - low))[nondominated(p)]) for p in points]
    sentences = [
        f"Held against {other.folder.name} ({_name(other)}), both after {n:,} trials, in one box: "
        f"hypervolume {volumes[0]:.3f} here, {volumes[1]:.3f} there."
    ]
    for i, o in enumerate(goals(objectives)):
        best = [float(p[:, i].min()) * (-1.0 if o.goal == "max" else 1.0) for p in points]
        sentences.append(f"{label(o.metric)}: best {number(best[0])} here, {number(best[1])} there.")
    sentences.append("One pair of runs shows no more than that; repeat both with other seeds.")
    return sentences


def _after(result: Result, n: int) -> list[Member]:
    """What is feasible of the baseline and the first search trials, by all that is known of it."""
    trials = result.history.trials
    last = [t.number for t in trials if t.role == "search"][n - 1] if n else -1
    known = {
        t.proposal.candidate
        for t in trials
        if t.role == "baseline" or (t.role == "search" and t.number <= last)
    }
    return candidates([t for t in trials if t.proposal.candidate in known], result.parts.objectives)


def _name(result: Result) -> str:
    spec = result.parts.search.strategy
    return str(spec.get("name", spec.get("factory")) if isinstance(spec, Mapping) else spec)


def _random_command(result: Result, trials: int) -> str:
    """What runs the random search; the config is the file that the run was started with."""
    out = f"runs/{result.folder.name}-random"
    return (
        f"nas search CONFIG.yaml --seed {result.parts.search.seed} --set strategy=random "
        f"--set {shlex.quote(f'budget={{trials: {trials}}}')} --out {shlex.quote(out)}\n"
        f"nas report {result.words} --against {shlex.quote(out)}"
    )


# --- size -----------------------------------------------------------------------------------------------


def size(parts: Parts, front: Front) -> Finding:
    """What choosing by size alone would have given."""
    costs, how = _costs(parts, front.candidates)
    if not costs:
        return Finding("Against choosing by size", [how])
    sentences = [how] if how else []
    rng = np.random.default_rng(parts.search.seed)
    for o in goals(front.objectives):
        if o.metric in SIZES:
            continue
        for metric, column in costs.items():
            pairs = [(c, m) for c, m in zip(column, front.candidates, strict=True) if np.isfinite(c)]
            if len(pairs) < FEW or len({c for c, _ in pairs}) < 2:
                sentences.append(f"{label(metric)}: too few architectures of different size to say anything.")
                continue
            sentences.append(_by_size(o, metric, pairs, rng) + f" The run's best is {_best(front, o)}.")
    return Finding("Against choosing by size", sentences)


def _by_size(
    o: Objective, metric: str, pairs: Sequence[tuple[float, Member]], rng: np.random.Generator
) -> str:
    sizes = np.array([c for c, _ in pairs])
    values = np.array([m.values[o.metric] for _, m in pairs])
    rho = spearman(sizes, values)
    low, high = spearman_interval(sizes, values, rng)
    # The plain rule: large models for what grows, small ones for what shrinks.
    pick = int(np.argmax(sizes) if o.goal == "max" else np.argmin(sizes))
    word = "most" if o.goal == "max" else "fewest"
    return (
        f"{label(o.metric)} and {metric} have rank correlation {rho:.2f} "
        f"(95 % bootstrap interval {low:.2f} to {high:.2f}, {len(pairs):,} architectures within the bounds). "
        f"Of these, the one with the {word} {metric} has {number(float(values[pick]))}."
    )


def _best(front: Front, o: Objective) -> str:
    return number(front.best(o.metric).values[o.metric])


def _costs(parts: Parts, found: Sequence[Member]) -> tuple[dict[str, list[float]], str]:
    """Costs of each architecture, NaN where unknown, and where they are from."""
    known = {
        metric: [m.values.get(metric, np.nan) for m in found]
        for metric in SIZES
        if any(metric in m.values for m in found)
    }
    missing = [metric for metric in SIZES if metric not in known]
    if not missing:
        return known, ""
    if parts.task is None or not any(e.builds for e in parts.evaluators):
        word = " and ".join(missing)
        return known, f"{word} were not measured in this run, and no modules are built that they could be of."
    try:
        cost = registry.create("evaluator", "cost", parts.offers)
    except NasError as error:
        return known, f"{' and '.join(missing)} cannot be counted: {error}."
    chosen = np.unique(np.linspace(0, len(found) - 1, min(SIZED, len(found))).astype(int)).tolist()
    rows = Known(cost, parts.search.seed).values([found[i].architecture for i in chosen], missing)
    for metric in missing:
        known[metric] = [float("nan")] * len(found)
        for i, row in zip(chosen, rows, strict=True):
            known[metric][i] = row[metric]
    part = "" if len(chosen) == len(found) else f", of {len(chosen)} evenly chosen architectures"
    return known, f"{' and '.join(missing)} were counted for this report{part}."


# --- seeds, grain, clocks -------------------------------------------------------------------------------


def seeds(result: Result) -> Finding:
    """How often everything was repeated."""
    repeats = {t.proposal.replicate for t in result.history.trials if not t.failed}
    sentences = [
        "One search with one seed: another seed would find another front, and nothing here says how "
        "different. A difference to another method within the spread over seeds is no difference.",
    ]
    if len(repeats) > 1:
        sentences.append(f"Architectures were evaluated in up to {len(repeats)} replicates.")
    else:
        sentences.append(
            "Each architecture was trained or scored once; the best of many noisy values flatters itself."
        )
    seed = result.parts.search.seed
    outs = " ".join(result.words if i == 0 else f"RUN-{seed + i}" for i in range(3))
    command = f"nas search CONFIG.yaml --seed {seed + 1} --out RUN-{seed + 1}\n…\nnas compare {outs}"
    return Finding("Seeds", sentences, command)


def grain(parts: Parts, front: Front, words: str) -> list[Finding]:
    """How fine the validation split can tell models apart."""
    task = parts.task
    metric = next((o.metric for o in goals(front.objectives) if o.metric == "accuracy"), None)
    if task is None or metric is None or metric not in task.metrics:
        return []
    if not any(metric in e.metrics and e.builds for e in parts.evaluators):
        return []
    n = task.count("val")
    best = front.best(metric).values[metric]
    error = float(np.sqrt(max(best * (1 - best), 0.0) / n))
    near = sum(m.values[metric] >= best - error for m in front.candidates)
    sentences = [
        f"Accuracy is a fraction of {n:,} validation samples, by which the search also chose: one sample is "
        f"{number(1 / n)}. The best value's standard error is {number(error)}; "
        f"{counted(near, 'architecture')} of {len(front.candidates):,} lie within it of the best.",
    ]
    return [Finding("Grain of the validation data", sentences, f"nas front {words} --test")]


def clocks(trials: Sequence[Trial], front: Front) -> list[Finding]:
    """How far readings of a clock scatter."""
    spreads = [
        float(t.outcome.notes["spread"])
        for t in trials
        if isinstance(t.outcome, Measurement) and "latency_ms" in t.values and "spread" in t.outcome.notes
    ]
    if not spreads:
        return []
    middle, high = np.quantile(spreads, (0.5, 0.9))
    sentences = [
        f"Each latency is a median of runs; the distance of their 10th to their 90th percentile is "
        f"{100 * middle:.0f} % of it in the middle of {counted(len(spreads), 'measurement')}, "
        f"{100 * high:.0f} % in the worst tenth. Smaller differences may be noise."
    ]
    before = {m.candidate: m for m in members([t for t in trials if t.role != "confirm"])}
    shifts = [
        m.values["latency_ms"] / before[m.candidate].values["latency_ms"] - 1
        for m in front
        if "latency_ms" in m.confirmed and "latency_ms" in before[m.candidate].values
    ]
    if shifts:
        typical, worst = 100 * float(np.median(shifts)), 100 * max(map(abs, shifts))
        sentences.append(
            f"{counted(len(shifts), 'member')} of the front were measured again after the search: by the "
            f"median {typical:+.0f} %, at most {worst:.0f} % away. The later value is shown."
        )
    return [Finding("Readings of the clock", sentences)]


def guesses(parts: Parts, front: Front) -> list[Finding]:
    """Which values nothing was measured for."""
    sentences = [
        f"{metric} comes from the datasheet of {parts.target.name}: take each value within a factor of "
        f"{factor:g}. Such values rank models; they are no times."
        for metric, factor in front.bands.items()
    ]
    return [Finding("Times from a datasheet", sentences)] if sentences else []
