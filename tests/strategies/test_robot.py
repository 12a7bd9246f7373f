"""Search of a pool: metrics first and once, RoBoT's weights, fixed rankings, the modelled score."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Shifted, ToySpace, plain_space, small_space, trial

from nas import BadInput, Budget, Categorical, FunctionEvaluator, Study, parse_objectives
from nas.evaluator import Known
from nas.objective import minimised
from nas.proposal import Failure, Proposal
from nas.registry import create
from nas.rng import stream
from nas.strategies.random_search import RandomSearch
from nas.strategies.robot import RobustWeights, robot, uniform
from nas.strategies.robust_ranking import robust_ranking
from nas.strategies.score_ranking import score_ranking
from nas.surrogates.scores import minmax
from nas.table import SHIPPED
from nas.testing import drive

ONE = parse_objectives("min loss")
LINE = ToySpace([Categorical("i", tuple(range(100)))])
MAKERS = {"robot": robot, "ranking": score_ranking, "robust_ranking": robust_ranking}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def line(gain=lambda i: -abs(i - 70)):
    """Metrics of a hundred architectures: up and down the line, a hint with an outlier, noise, nothing."""
    noise = stream(0, "noise").permutation(100)
    hint = {i: -abs(i - 70) + (i % 3) for i in range(100)} | {0: 10_000.0}

    def answer(architecture):
        i = architecture["i"]
        return {
            "up": float(i),
            "down": -float(i),
            "hint": float(hint[i]),
            "noise": float(noise[i]),
            "accuracy": float(gain(i)),
            "cost": float(i),
        }

    metrics = ("up", "down", "hint", "noise", "accuracy", "cost")
    return FunctionEvaluator(answer, metrics, cheap=("up", "down", "hint", "noise"))


MAX = parse_objectives("max accuracy")
HINTS = ["up", "hint", "noise"]


def searched(strategy, evaluator, trials, seed=0, batch=1):
    return drive(strategy, lambda p: evaluator.evaluate([p], seed=0)[0], trials, seed=seed, batch=batch)


@every
def test_each_metric_is_asked_once_and_each_objective_at_most_once(make):
    trials = searched(make(LINE, MAX, HINTS, pool=40), line(), 200, batch=3)
    asked = [t.proposal for t in trials]
    assert [p.metrics for p in asked[:40]] == [tuple(HINTS)] * 40
    assert [p.metrics for p in asked[40:]] == [("accuracy",)] * 40
    assert len({p.candidate for p in asked[:40]}) == len({p.candidate for p in asked[40:]}) == 40


@every
def test_known_metrics_are_not_asked_for(make):
    evaluator = line()
    known = Known(evaluator, 0)
    trials = searched(make(LINE, MAX, [*HINTS, "cost"], pool="all", known=known), evaluator, 130)
    assert [t.proposal.metrics for t in trials[:100]] == [("cost",)] * 100
    trials = searched(make(LINE, MAX, HINTS, pool="all", known=known), evaluator, 20)
    assert {t.proposal.metrics for t in trials} == {("accuracy",)}


@every
def test_a_study_takes_it_and_repeats_it(make):
    evaluator = line()

    def run():
        strategy = make(LINE, MAX, HINTS, pool=30)
        study = Study(LINE, MAX, evaluator, strategy, seed=3, batch=2)
        study.run(Budget(trials=50))
        return study

    first, second = run(), run()
    assert [t.proposal for t in first.history.trials] == [t.proposal for t in second.history.trials]
    assert set(first.front()[0].values) >= {"accuracy"}


@pytest.mark.parametrize("make", [robot, robust_ranking], ids=["robot", "robust_ranking"])
def test_what_learns_beats_random_search_for_as_many_objectives(make):
    space, found = plain_space(), {make: [], RandomSearch: []}
    for seed in range(5):
        problem = Shifted(space, seed)
        evaluator = FunctionEvaluator(problem, ("loss", "near", "cost"), cheap=("near", "cost"))
        known = Known(evaluator, 0)
        for strategy in (make(space, ONE, ["near", "cost"], 300, known=known), RandomSearch(space, ONE)):
            trials = drive(strategy, problem.evaluate, 12, seed=seed, batch=1)
            found[RandomSearch if isinstance(strategy, RandomSearch) else make].append(
                min(t.values["loss"] for t in trials)
            )
    assert np.mean(found[make]) < np.mean(found[RandomSearch]) - 0.5


def test_every_kind_of_pool_can_be_given():
    listed = [{"i": 5}, {"i": 7}, {"i": 5}]
    for pool, count in (("all", 100), (12, 12), (listed, 2), (1_000, 100)):
        trials = searched(score_ranking(LINE, MAX, ["up"], pool), line(), 300, batch=10)
        assert len({t.proposal.candidate for t in trials}) == count


def test_a_table_is_a_pool():
    space = create("space", {"name": "table", "table": "synthetic"})
    strategy = score_ranking(space, MAX, ["size"], str(SHIPPED / "synthetic.table"))
    strategy.tell((), stream(0))
    asked = {p.candidate for p in strategy.ask(1_000, stream(0))}
    assert asked == {space.architecture(space.table.choices(row)) for row in range(space.table.size)}
    with pytest.raises(BadInput, match="table must be a file"):
        score_ranking(space, MAX, ["size"], "missing.table")


# --- RoBoT ---------------------------------------------------------------------------------------------


def reference(metrics, gains, rounds, rng):
    """The random-weight algorithm, written out: the rows in the order of asking."""
    asked, best, top = [], None, -np.inf
    weights = rng.uniform(-1, 1, metrics.shape[1])
    for i in range(rounds):
        row = int(np.argmax(metrics @ weights))
        if row not in asked:
            asked.append(row)
        if gains[row] >= top:
            best, top = weights, gains[row]
        if i + 1 < rounds:
            weights = rng.uniform(-1, 1, metrics.shape[1])
    rest = np.argsort(-(metrics @ best), kind="stable")
    return asked, [*asked, *(int(row) for row in rest if row not in asked)]


@pytest.mark.parametrize("seed", range(5))
def test_random_weights_are_the_algorithm_written_out(seed):
    metrics = stream(seed, "metrics").random((50, 4))
    gains = metrics @ [1.0, -1.0, 0.2, 0.0] + stream(seed, "more").random(50)
    policy, rng = RobustWeights(10, minmax, uniform), stream(seed, "search")
    policy.begin(metrics, rng)
    asked = []
    while len(asked) < 25:
        row = next(r for r in policy.order() if r not in asked)
        asked.append(row)
        policy.tell([(row, gains[row])], rng)
    explored, expected = reference(minmax(metrics), gains, 10, stream(seed, "search"))
    assert len(explored) < 10, "some weights share their first, which costs nothing"
    assert asked == expected[:25]


def test_bayesian_weights_take_repeats_as_observations(monkeypatch):
    seen = []

    def explore(points, gains, rng):
        seen.append((len(points), gains.tolist()))
        return points[-1]  # the same first again and again

    policy = RobustWeights(4, minmax, explore)
    policy.begin(np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4]]), stream(0))
    (row,) = policy.order()
    policy.tell([(row, 5.0)], stream(1))
    assert seen == [(1, [5.0]), (2, [5.0] * 2), (3, [5.0] * 3)]
    assert len(policy.order()) == 3


def test_a_failure_counts_as_the_worst_so_far():
    gains = []

    def explore(points, observed, rng):
        gains.append(observed.tolist())
        return -points[-1]

    policy = RobustWeights(3, minmax, explore)
    policy.begin(np.array([[0.0], [1.0]]), stream(0))
    (first,) = policy.order()
    policy.tell([(first, 2.0)], stream(1))
    (second,) = policy.order()
    policy.tell([(second, None)], stream(1))
    assert second != first
    assert gains == [[2.0], [2.0, 2.0]]


def test_minmax_follows_an_outlier_that_ranks_do_not():
    first = {}
    for normalisation in ("minmax", "rank"):
        found = [
            searched(
                robot(LINE, MAX, HINTS, "all", 8, normalisation, "random", Known(line(), 0)), line(), 8, seed
            )
            for seed in range(10)
        ]
        first[normalisation] = np.mean([0 in [t.proposal.candidate["i"] for t in trials] for trials in found])
    assert first["minmax"] > first["rank"]


# --- rankings ------------------------------------------------------------------------------------------


def order(strategy, trials=10, evaluator=None):
    found = searched(strategy, evaluator or line(), trials)
    return [t.proposal.candidate["i"] for t in found]


def test_a_ranking_is_walked_from_the_top_and_a_minus_turns_it():
    known = Known(line(), 0)
    assert order(score_ranking(LINE, MAX, ["up"], "all", known=known), 3) == [99, 98, 97]
    assert order(score_ranking(LINE, MAX, ["-up"], "all", known=known), 3) == [0, 1, 2]
    assert order(score_ranking(LINE, MAX, ["up", "-down"], "all", "log_rank", known), 3) == [99, 98, 97]


def test_a_bound_that_is_broken_is_no_gain():
    objectives = parse_objectives("max accuracy, limit cost <= 50")
    trials = searched(
        robust_ranking(LINE, objectives, ["up", "noise"], "all", known=Known(line(), 0)), line(), 25
    )
    costs = [t.values["cost"] for t in trials]
    assert np.mean(np.array(costs[12:]) <= 50) > 0.5, "it learns where the bound holds"
    feasible = [t for t in trials if t.values["cost"] <= 50]
    assert max(minimised([t.values for t in feasible], MAX)[:, 0]) <= 71


def test_the_modelled_score_finds_an_optimum_that_no_metric_ranks_first():
    known = Known(line(), 0)
    assert order(score_ranking(LINE, MAX, ["up"], "all", known=known), 25).count(70) == 0
    for seed in range(5):
        trials = searched(robust_ranking(LINE, MAX, ["up", "noise"], "all", known=known), line(), 25, seed)
        assert max(t.values["accuracy"] for t in trials) >= -3


# --- what is missing -----------------------------------------------------------------------------------


@every
def test_architectures_without_metrics_come_last(make):
    evaluator = line()

    def answer(proposal):
        if "accuracy" not in proposal.metrics and proposal.candidate["i"] % 2:
            return Failure("error", "no such metric")
        return evaluator.evaluate([proposal], seed=0)[0]

    trials = drive(make(LINE, MAX, HINTS, "all"), answer, 200, batch=1)
    asked = [t.proposal.candidate["i"] % 2 for t in trials if t.proposal.metrics == ("accuracy",)]
    assert asked == [0] * 50 + [1] * 50


@every
def test_a_metric_that_is_missing_in_known_rows_leaves_the_others(make):
    class Partly:
        metrics = frozenset({"up", "gone"})

        def values(self, architectures, metrics):
            broken = "gone" in metrics
            return [dict.fromkeys(metrics, np.nan) if broken else {"up": a["i"]} for a in architectures]

    trials = searched(make(LINE, MAX, ["up", "gone"], "all", known=Partly()), line(), 12)
    assert len(trials) == 12
    strategy = make(LINE, MAX, ["up", "gone"], "all", known=Partly())
    strategy.tell((), stream(0))
    assert np.isfinite(strategy._metrics[:, 0]).all()
    assert np.isnan(strategy._metrics[:, 1]).all()


@every
def test_nothing_but_failures_is_survived(make):
    trials = drive(
        make(small_space(), ONE, ["near"], 4), lambda _: Failure("error", "as planned"), 20, batch=1
    )
    assert len(trials) == 8


def test_what_was_told_before_counts():
    proposal = Proposal(LINE.architecture({"i": 99}), ("accuracy",))
    strategy = score_ranking(LINE, MAX, ["up"], "all", known=Known(line(), 0))
    strategy.tell((), stream(0))
    strategy.tell([trial(0, proposal.candidate, metrics=("accuracy",), accuracy=1.0)], stream(1))
    assert strategy.ask(1, stream(2))[0].candidate["i"] == 98


# --- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (robot, {"metrics": []}, "metrics must name at least one"),
        (robot, {"metrics": "synflow"}, "metrics must name at least one"),
        (robot, {"metrics": ["a", "a"]}, "metrics must name at least one"),
        (score_ranking, {"metrics": "synflow"}, "metrics must name at least one"),
        (robot, {"metrics": ["a"], "pool": 0}, "pool must be at least 1"),
        (robot, {"metrics": ["a"], "pool": "some"}, "pool must be a number, 'all'"),
        (robot, {"metrics": ["a"], "pool": []}, "pool must be a number, 'all'"),
        (robot, {"metrics": ["a"], "rounds": 0}, "rounds must be at least 1"),
        (robot, {"metrics": ["a"], "weights": "bayes"}, "weights .*bayesian"),
        (robot, {"metrics": ["a"], "normalisation": "z"}, "normalisation .*minmax"),
        (score_ranking, {"metrics": ["a"], "score": "votes"}, "score .*vote"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, settings, message):
    with pytest.raises(BadInput, match=message):
        make(LINE, MAX, **settings)
