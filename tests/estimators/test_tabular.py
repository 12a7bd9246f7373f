"""Table lookups, simulated seconds, noise and single runs; and the surrogate for samples."""

from __future__ import annotations

import numpy as np
import pytest

import nas
from nas import BadInput, Categorical, Proposal, Real
from nas.budget import Budget
from nas.errors import UnknownMetric
from nas.estimators.tabular import TabularEvaluator
from nas.estimators.tabular_surrogate import TabularSurrogate, fitted
from nas.proposal import Failure, Measurement
from nas.registry import create
from nas.rng import stream
from nas.spaces.nasbench201 import NasBench201Space
from nas.spaces.pool import PoolSpace
from nas.spaces.table import TableSpace
from nas.study import Study
from nas.table import Table
from nas.tables.draft import Draft
from nas.testing.problems import ToySpace


@pytest.fixture
def table():
    return Table.open("synthetic")


@pytest.fixture
def space():
    return NasBench201Space(nodes=3)


def ask(evaluator, architecture, *metrics, seed=0, **settings):
    (outcome,) = evaluator.evaluate([Proposal(architecture, metrics, **settings)], seed=seed)
    return outcome


def test_metrics_are_those_of_the_row(table, space):
    evaluator = TabularEvaluator(space, "synthetic")
    for row in (0, 37, 124):
        outcome = ask(evaluator, space.architecture(table.choices(row)), "test_accuracy", "params")
        assert outcome.values["test_accuracy"] == table.values("test_accuracy")[row]
        assert outcome.values["params"] == table.values("params")[row]
        assert outcome.seconds == pytest.approx(table.values("train_seconds")[row])


def test_what_needs_a_training_is_functional_and_what_does_not_is_cheap(space):
    evaluator = TabularEvaluator(space, "synthetic")
    assert {"valid_accuracy", "test_accuracy"} <= evaluator.functional
    assert evaluator.cheap == {"params", "gpu_latency_ms", "tpu_latency_ms"}
    assert evaluator.multi_fidelity == {"valid_accuracy"}
    assert not evaluator.cheap & evaluator.functional
    assert "train_seconds" in evaluator.metrics - evaluator.cheap - evaluator.functional


def test_seconds_and_values_follow_the_fidelity(table, space):
    evaluator = TabularEvaluator(space, "synthetic")
    half = ask(evaluator, space.architecture(table.choices(5)), "valid_accuracy", fidelity=0.5)
    assert half.seconds == pytest.approx(table.values("train_seconds")[5] / 2)
    assert half.values["valid_accuracy"] == table.values("valid_accuracy", 0.5)[5]


def test_order_is_kept_among_different_questions(table, space):
    evaluator = TabularEvaluator(space, "synthetic")
    rows = [3, 99, 3, 41]
    asked = [("params",), ("test_accuracy",), ("params",), ("params", "gpu_latency_ms")]
    proposals = [Proposal(space.architecture(table.choices(r)), m) for r, m in zip(rows, asked, strict=True)]
    for row, metrics, outcome in zip(rows, asked, evaluator.evaluate(proposals, seed=0), strict=True):
        assert outcome.values == {m: table.values(m)[row] for m in metrics}


def test_a_missing_value_is_a_failure_with_its_reason(table, space):
    row = int(np.nonzero(np.isnan(table.values("tpu_latency_ms")))[0][0])
    evaluator = TabularEvaluator(space, "synthetic")
    outcome = ask(evaluator, space.architecture(table.choices(row)), "tpu_latency_ms", "test_accuracy")
    assert isinstance(outcome, Failure)
    assert "it does not compile for the device" in outcome.reason
    assert outcome.seconds == pytest.approx(table.values("train_seconds")[row])


def test_objectives_can_have_their_own_names(table, space):
    evaluator = TabularEvaluator(space, "synthetic", metrics={"accuracy": "valid_accuracy"})
    a = space.architecture(table.choices(9))
    assert ask(evaluator, a, "accuracy").values == {"accuracy": table.values("valid_accuracy")[9]}
    assert "accuracy" in evaluator.functional & evaluator.multi_fidelity
    with pytest.raises(UnknownMetric, match=r"metrics\.accuracy: unknown metric 'valid'"):
        TabularEvaluator(space, "synthetic", metrics={"accuracy": "valid"})
    with pytest.raises(BadInput, match=r"metrics\.params must stand for the column of that name"):
        TabularEvaluator(space, "synthetic", metrics={"params": "valid_accuracy"})


def test_single_runs_are_chosen_by_the_replicate(table, space):
    evaluator = TabularEvaluator(space, "synthetic", runs=["test_accuracy"])
    a = space.architecture(table.choices(50))
    runs = [float(table.values(f"test_accuracy_run{i}")[50]) for i in range(3)]
    found = [ask(evaluator, a, "test_accuracy", replicate=r).values["test_accuracy"] for r in range(4)]
    assert found == [*runs, runs[0]]
    with pytest.raises(BadInput, match="runs must name metrics with single runs: test_accuracy, got"):
        TabularEvaluator(space, "synthetic", runs=["params"])


def test_rows_with_fewer_runs_are_counted_around_those(tmp_path):
    draft = Draft("toy", "nobody", {}, {"a": ["x", "y"]}, 2)
    draft.add("score", np.array([1.5, 5.0]), runs=["run0", "run1"])
    draft.add("run0", np.array([1.0, np.nan]))
    draft.add("run1", np.array([2.0, 5.0]))
    draft.write(tmp_path / "toy.table")
    space = ToySpace([Categorical("a", ("x", "y"))])
    evaluator = TabularEvaluator(space, tmp_path / "toy.table", runs=["score"])
    found = [
        [ask(evaluator, space.architecture({"a": a}), "score", replicate=r).values["score"] for r in range(3)]
        for a in "xy"
    ]
    assert found == [[1.0, 2.0, 1.0], [5.0, 5.0, 5.0]]


def test_noise_repeats_itself_and_leaves_costs_alone(table, space):
    evaluator = TabularEvaluator(space, "synthetic", noise=0.02)
    architectures = [space.architecture(table.choices(i)) for i in range(125)]

    def told(replicate=0, seed=0):
        proposals = [Proposal(a, ("test_accuracy", "params"), replicate=replicate) for a in architectures]
        outcomes = evaluator.evaluate(proposals, seed=seed)
        return np.array([[o.values["test_accuracy"], o.values["params"]] for o in outcomes])

    off = told() - np.stack([table.values("test_accuracy"), table.values("params")], axis=1)
    assert 0.015 < off[:, 0].std() < 0.025
    assert not off[:, 1].any()
    np.testing.assert_array_equal(told(), told())
    assert (told()[:, 0] != told(replicate=1)[:, 0]).all()
    assert (told()[:, 0] != told(seed=1)[:, 0]).all()
    for noise in (-0.1, float("nan"), True, "0"):
        with pytest.raises(BadInput, match="noise must be a finite number of at least 0"):
            TabularEvaluator(space, "synthetic", noise=noise)


def test_a_table_of_another_space_is_refused():
    with pytest.raises(BadInput, match="must have the decisions edge_0_1, edge_0_2, edge_1_2, got"):
        TabularEvaluator(NasBench201Space(), "synthetic")
    ops = ("none", "skip_connect")
    small = ToySpace([Categorical(f"edge_{e}", ops) for e in ("0_1", "0_2", "1_2")])
    with pytest.raises(BadInput, match=r"must have all its values, got .*avg_pool_3x3"):
        TabularEvaluator(small, "synthetic")
    real = ToySpace([Real("edge_0_1", 0, 1), *[Categorical(f"edge_{e}", ops) for e in ("0_2", "1_2")]])
    with pytest.raises(BadInput, match="must be real just where the table's is"):
        TabularEvaluator(real, "synthetic")


def test_only_architectures_and_known_metrics_are_looked_up(space):
    evaluator = TabularEvaluator(space, "synthetic")
    with pytest.raises(BadInput, match="a candidate must be an architecture"):
        ask(evaluator, nas.Mixture({"edge_0_1": [1, 0, 0, 0, 0]}), "params")
    with pytest.raises(UnknownMetric):
        ask(evaluator, space.sample(stream(0, "x")), "param")


def test_seconds_are_a_simulated_budget(table, space):
    evaluator = TabularEvaluator(space, "synthetic", metrics={"accuracy": "valid_accuracy"})
    objectives = nas.parse_objectives("max accuracy, min gpu_latency_ms")
    strategy = create("strategy", "random", {"space": space, "objectives": objectives})
    study = Study(space, objectives, evaluator, strategy)
    study.run(Budget(seconds=600))
    costs = [
        table.values("train_seconds")[table.rows([t.proposal.candidate])[0]] for t in study.history.trials
    ]
    assert study.ended == "budget reached: seconds"
    assert sum(costs[:-1]) < 600 <= sum(costs) == pytest.approx(study.spent.seconds)


# --- samples ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """300 of 4,096 points of a smooth function, with a real decision and one exploded value."""
    rng = stream(0, "sample")
    codes = np.unique(rng.integers(0, 4, size=(300, 5)), axis=0)
    real = rng.random(len(codes))
    draft = Draft("sample", "nobody", {}, {f"d{i}": c.tolist() for i, c in enumerate(codes.T)} | {"x": real})
    score = codes @ [5.0, 3, 2, 1, 1] + 2 * real
    draft.add("score", np.where(np.arange(len(codes)) == 7, 1e30, score), cost="seconds")
    draft.add("seconds", 10 + codes[:, 0], "s", "seconds")
    draft.add("latency_ms", codes[:, 1] + 1.0, "ms", "static")
    path = tmp_path_factory.mktemp("sample") / "sample.table"
    draft.write(path)
    return path


def full():
    return ToySpace([*[Categorical(f"d{i}", (0, 1, 2, 3)) for i in range(5)], Real("x", 0.0, 1.0)])


def test_an_architecture_outside_a_sample_fails_with_advice(sample):
    evaluator = TabularEvaluator(full(), sample)
    outcome = ask(evaluator, full().sample(stream(0, "outside")), "score")
    assert isinstance(outcome, Failure)
    assert "pool" in outcome.reason
    assert "tabular_surrogate" in outcome.reason


def test_every_candidate_of_a_pool_has_its_row(sample):
    pool = PoolSpace(sample)
    evaluator = TabularEvaluator(pool, sample)
    table = evaluator.table
    rng = stream(0, "pool")
    for a in [pool.sample(rng) for _ in range(20)]:
        assert ask(evaluator, a, "score").values["score"] == table.values("score")[a["row"]]
    inside = TabularEvaluator(full(), sample)
    a = full().architecture(pool.chosen(pool.architecture({"row": 11})))
    assert ask(inside, a, "score").values["score"] == table.values("score")[11]
    with pytest.raises(BadInput, match="the pool must have the"):
        TabularEvaluator(PoolSpace("synthetic"), sample)


def test_the_surrogate_answers_everywhere_and_states_its_error(sample):
    surrogate = TabularSurrogate(full(), sample, predict=["score", "latency_ms"])
    errors = surrogate.errors("score")
    assert errors.spearman > 0.9
    assert errors.rows == Table.open(sample).size // 5
    rng = stream(0, "surrogate")
    proposals = [Proposal(full().sample(rng), ("score", "latency_ms")) for _ in range(200)]
    outcomes = surrogate.evaluate(proposals, seed=0)
    true = [
        [*[p.candidate[f"d{i}"] for i in range(5)], p.candidate["x"]] @ np.array([5.0, 3, 2, 1, 1, 2])
        for p in proposals
    ]
    told = [o.values["score"] for o in outcomes]
    assert np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(told)))[0, 1] > 0.9
    assert all(9 < o.seconds < 14 for o in outcomes)
    assert surrogate.cheap == {"latency_ms"}
    assert str(errors) in outcomes[0].notes["score predicted"]


def test_held_out_errors_are_those_of_rows_that_were_not_learned(sample):
    table = Table.open(sample)
    forest, errors = fitted(table, "score")
    x = np.stack([table.column(c.name).astype(float) for c in table.columns], axis=1)
    off = np.abs(forest.predict(x) - table.values("score"))
    held = stream(0, "table", "held out").permutation(table.size)[: table.size // 5]
    assert off[held].mean() == pytest.approx(errors.mae)
    assert np.median(off) < 0.5 * np.median(off[held])


def test_one_wild_value_does_not_spoil_the_surrogate(sample):
    surrogate = TabularSurrogate(full(), sample, predict=["score"])
    rng = stream(1, "wild")
    told = [ask(surrogate, full().sample(rng), "score").values["score"] for _ in range(100)]
    assert np.median(told) < 40
    assert np.mean(np.array(told) < 1e3) > 0.9


def test_the_surrogate_predicts_its_objectives_alone(sample):
    objectives = nas.parse_objectives("max score, min unrelated")
    surrogate = TabularSurrogate(full(), sample, objectives=objectives)
    assert surrogate.metrics == {"score"}
    with pytest.raises(BadInput, match="predict must name at least one metric"):
        TabularSurrogate(full(), sample)
    with pytest.raises(UnknownMetric, match="predict: unknown metric 'scor'"):
        TabularSurrogate(full(), sample, predict=["scor"])
    with pytest.raises(BadInput, match="a pool is looked up by 'tabular'"):
        TabularSurrogate(PoolSpace(sample), sample, predict=["score"])
    with pytest.raises(UnknownMetric):
        surrogate.errors("latency_ms")


def test_too_few_rows_are_not_fitted(tmp_path):
    draft = Draft("few", "nobody", {}, {"a": list(range(10))})
    draft.add("score", np.arange(10.0))
    draft.write(tmp_path / "few.table")
    space = TableSpace(tmp_path / "few.table")
    with pytest.raises(BadInput, match="score of few must be in at least 20 rows to be fitted, got 10"):
        TabularSurrogate(space, tmp_path / "few.table", predict=["score"])


def test_a_measurement_is_what_the_study_expects(sample):
    surrogate = TabularSurrogate(full(), sample, predict=["score"])
    outcome = ask(surrogate, full().sample(stream(2, "x")), "score")
    assert isinstance(outcome, Measurement)
    assert all(isinstance(note, str) for note in outcome.notes.values())
