"""What a report claims can be found again in the trials."""

from __future__ import annotations

from itertools import combinations
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from toys import plain_space, trial

from nas import parse_objectives, stream
from nas.front import members
from nas.report.honesty import findings, random_start
from nas.report.importance import ENOUGH, importances
from nas.report.statistics import best_of, spearman, spearman_interval

NUMBERS = st.lists(st.integers(-5, 5), min_size=3, max_size=7)


@given(NUMBERS)
def test_the_best_of_n_is_the_mean_over_all_subsets(values):
    found = best_of(values)
    for n, expected in enumerate(found, 1):
        assert expected == pytest.approx(mean(min(chosen) for chosen in combinations(values, n)))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_rank_correlation_is_that_of_scipy(pairs):
    a, b = np.array(pairs, dtype=float).T
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_the_interval_holds_the_true_correlation_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = spearman(*_correlated(rng, 20_000))
    hits = 0
    for _ in range(15):
        low, high = spearman_interval(*_correlated(rng, 60), rng)
        hits += low <= truth <= high
    assert 12 <= hits <= 15


def _correlated(rng, n):
    a = rng.normal(size=n)
    return a, a + rng.normal(size=n)


def test_importance_finds_what_matters():
    space = plain_space(5, 3)
    rng = stream(0, "importance")
    for n in (ENOUGH + 10, 150):
        found = {a.key: a for a in (space.sample(rng) for _ in range(2 * n))}
        architectures = list(found.values())[:n]
        names = [leaf.name for leaf in space.leaves]
        trials = [trial(i, a, loss=float(a[names[2]]) + 0.01 * i / n) for i, a in enumerate(architectures)]
        (one,) = importances(members(trials), space, parse_objectives("min loss"), 0)
        assert next(iter(one.shares)) == names[2]
        assert sum(one.shares.values()) == pytest.approx(1)
        assert one.method == ("fANOVA" if n < 100 else "PED-ANOVA")
    assert importances(members(trials[: ENOUGH - 1]), space, parse_objectives("min loss"), 0) == []


def about(result, heading, others=()):
    (found,) = [f for f in findings(result, others) if f.about == heading]
    return found


def test_the_random_start_is_told_and_what_was_not_run(runs):
    result = runs[0]
    assert random_start(result.parts, 70) == 10
    found = about(result, "Against random search")
    assert "The first 10 of 70 proposals were drawn at random" in found.sentences[0]
    assert "does not show that it beats random search" in found.sentences[-1]
    assert "--set strategy=random --set 'budget={trials: 70}'" in found.command
    best = result.front().best("score").values["score"]
    assert f"best of the whole run {best:.4g}" in " ".join(found.sentences)


def test_a_random_search_is_called_one(runs):
    found = about(runs[-1], "Against random search")
    assert found.sentences == ["This run is a random search: all 70 proposals were drawn."]
    assert not found.command


def test_a_random_search_is_held_against_the_run_after_equally_many_trials(runs):
    found = about(runs[0], "Against random search", [runs[-1]])
    text = " ".join(found.sentences)
    assert "Held against random (random), both after 70 trials, in one box" in text
    mine, theirs = (r.front().best("score").values["score"] for r in (runs[0], runs[-1]))
    assert f"score: best {mine:.4g} here, {theirs:.4g} there." in text
    assert not found.command


def test_a_run_held_against_itself_is_equal(runs):
    text = " ".join(about(runs[0], "Against random search", [runs[0]]).sentences)
    front = runs[0].front()
    volume = f"{front.hypervolume():.3f}"
    assert f"hypervolume {volume} here, {volume} there" in text
    assert f"best {front.best('cost').values['cost']:.4g} here" in text


def test_size_alone_is_shown_as_a_rival(runs):
    sentences = about(runs[0], "Against choosing by size").sentences
    assert sentences[0].startswith("params and macs were counted for this report")
    front = runs[0].front()
    widths = np.array([m.architecture["width"] for m in front.candidates], dtype=float)
    costs = np.array([m.values["cost"] for m in front.candidates])
    # Parameters grow with the width, and nothing else changes them.
    expected = f"cost and params have rank correlation {spearman(widths, costs):.2f} "
    assert any(s.startswith(expected) for s in sentences)


def test_one_seed_is_called_one_seed(runs):
    assert about(runs[0], "Seeds").sentences[0].startswith("One search with one seed")


def test_the_grain_and_the_clock_are_told_of_real_trainings(tmp_path):
    from nas import search
    from nas.parts import Parts, Search
    from nas.result import Result

    settings = {
        "space": "mlp",
        "task": {"name": "digits", "limit": 200},
        "objectives": "max accuracy, min latency_ms",
        "evaluators": [{"name": "training", "epochs": 1}, {"name": "latency_measured", "seconds": 0.02}],
        "strategy": "random",
    }
    given = {k: v for k, v in settings.items() if k != "evaluators"}
    front = search(**given, evaluator=settings["evaluators"], trials=4, out=tmp_path / "run")
    from nas.history import OptunaHistory

    parts = Parts(Search(**settings), tmp_path / "run")
    history = OptunaHistory(tmp_path / "run" / "journal.log", parts.space, parts.objectives, writer="reader")
    result = Result(parts, history, tmp_path / "run")
    n = parts.task.count("val")
    grain = about(result, "Grain of the validation data")
    assert f"a fraction of {n} validation samples" in grain.sentences[0]
    assert grain.command.endswith("run --test")
    spreads = [t.outcome.notes["spread"] for t in history.trials if "spread" in t.outcome.notes]
    clock = about(result, "Readings of the clock").sentences
    assert f"{100 * np.median(spreads):.0f} % of it in the middle of {len(spreads)} measurements" in clock[0]
    assert clock[1].startswith(f"{len(front)} member")
