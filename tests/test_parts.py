"""From what was asked to finished parts."""

from __future__ import annotations

import pytest
from commands import OWN
from torch import nn
from toys import plain_space

from nas import Evaluator, FunctionEvaluator, Measurement, Space
from nas.errors import BadInput, Incompatible, UnknownMetric
from nas.evaluator import Combined
from nas.memo import Memoized
from nas.parts import Parts, Search
from nas.proposal import Proposal
from nas.rng import stream
from nas.strategies.random_search import RandomSearch


class Flat(Space):
    """A network for digits whose width is chosen."""

    from nas import Integer

    decisions = (Integer("width", 1, 4),)

    def build(self, a):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, a["width"]), nn.Linear(a["width"], 10))


class Counter(Evaluator):
    metrics = frozenset({"accuracy"})

    def __init__(self, space, step: int = 1):
        self.space, self.step = space, step

    def evaluate(self, proposals, *, seed):
        return [Measurement({"accuracy": float(self.step)}) for _ in proposals]


def one(architecture):
    return 1.0


def two_unknowns(first, second):
    return 1.0


def loss(model):
    return float(sum(p.sum() for p in model.parameters()))


def test_objectives_bring_their_evaluators():
    parts = Parts(Search("mlp", "max accuracy, min latency_ms, limit params <= 1e9"))
    names = [type(e).__name__ for e in parts.evaluators]
    assert names == ["TrainingEvaluator", "LatencyMeasured", "CostEvaluator"]
    assert isinstance(parts.evaluator, Combined)
    assert isinstance(parts.memoized, Memoized)
    assert parts.trainer() is parts.evaluators[0]


def test_given_evaluators_come_first():
    parts = Parts(Search("mlp", "max accuracy, min params", evaluators=[loss, "cost"]))
    assert [type(e).__name__ for e in parts.evaluators] == ["FunctionEvaluator", "CostEvaluator"]
    assert parts.evaluators[0].metrics == {"accuracy"}


def test_a_function_alone_needs_no_task():
    parts = Parts(Search(plain_space(), "min loss", evaluators=[one]))
    assert parts.task is None
    assert parts.evaluators[0].metrics == {"loss"}
    own = FunctionEvaluator(one, "loss")
    assert Parts(Search(plain_space(), "min loss", evaluators=[own])).task is None


def test_a_cost_beside_a_function_needs_a_task():
    search = Search(plain_space(), "min loss, min params", evaluators=[one])
    with pytest.raises(BadInput, match="task must be given to measure params"):
        Parts(search)


def test_a_functions_own_metrics_count():
    def both(architecture):
        return {"near": 1.0, "cost": 2.0}

    both.metrics = ("near", "cost")
    parts = Parts(Search(plain_space(), "min near", evaluators=[both]))
    assert parts.evaluators[0].metrics == {"near", "cost"}


@pytest.mark.parametrize(
    "given", [lambda f: [f], lambda f: ["cost", f]], ids=["alone", "after the toolkit's"]
)
def test_what_a_function_says_it_measures_is_its_own_whatever_the_toolkit_measures(given):
    def both(architecture):
        return {"accuracy": 1.0, "params": 7.0}

    both.metrics = ("accuracy", "params")
    parts = Parts(Search(Flat, "max accuracy, min params", evaluators=given(both)))
    asked = [Proposal(parts.space.sample(stream(0)), ("accuracy", "params"))]
    assert parts.evaluator.evaluate(asked, seed=0)[0].values == {"accuracy": 1.0, "params": 7.0}


def test_a_result_that_would_be_overruled_is_refused():
    def both(architecture):
        return {"accuracy": 1.0, "params": 7.0}

    parts = Parts(Search(Flat, "max accuracy, min params", task="digits", evaluators=[both]))
    asked = [Proposal(parts.space.sample(stream(0)), ("accuracy", "params"))]
    with pytest.raises(BadInput, match=r"must leave .params. to the toolkit, got .*; set the function"):
        parts.evaluator.evaluate(asked, seed=0)


def test_classes_are_made_with_what_they_name():
    parts = Parts(Search(Flat, "max accuracy", evaluators=[Counter], strategy=RandomSearch))
    assert isinstance(parts.space, Flat)
    assert isinstance(parts.strategy, RandomSearch)
    assert parts.evaluators[0].space is parts.space


def test_functions_in_files_are_evaluators_and_factories_are_called(tmp_path):
    (tmp_path / "own.py").write_text(
        OWN + "\n\ndef make(space, step=3):\n    return nas.FunctionEvaluator(width, 'accuracy')\n"
    )
    own, made = (
        Parts(
            Search(
                {"factory": "./own.py:Tiny"}, evaluators=[{"factory": f"./own.py:{name}"}], folder=tmp_path
            )
        )
        for name in ("width", "make")
    )
    for parts in (own, made):
        assert isinstance(parts.evaluators[0], FunctionEvaluator)
        assert parts.evaluators[0].metrics == {"accuracy"}


def test_settings_may_point_into_files(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    space = {"name": "hyper", "model": "./net.py:net", "only": ["lr"], "optimizers": ["sgd"]}
    parts = Parts(Search(space, folder=tmp_path))
    module = parts.space.build(next(iter([parts.space.architecture({"lr": 0.1})])))
    assert module[1].out_features == 10


def test_a_baseline_is_an_architecture_or_a_module(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(1, 1)\n")
    chosen = Parts(Search(Flat(), evaluators=["training"], baseline={"width": 2})).baseline
    assert chosen == Flat().architecture({"width": 2})
    fixed = Parts(
        Search(Flat(), evaluators=["training"], baseline={"factory": "./net.py:net"}, folder=tmp_path)
    ).baseline
    assert isinstance(fixed.build(), nn.Linear)
    named = Parts(Search(Flat(), evaluators=["training"], baseline={"factory": "torch.nn:Flatten"})).baseline
    assert isinstance(named.build(), nn.Flatten)
    with pytest.raises(
        BadInput, match=r"^baseline: unknown name in torch\.nn 'Flaten'; did you mean 'Flatten'"
    ):
        Parts(Search(Flat(), evaluators=["training"], baseline={"factory": "torch.nn:Flaten"}))


def test_joined_spaces_are_one():
    parts = Parts(
        Search(
            {
                "join": [
                    {"name": "conv", "stages": 1},
                    {"name": "hyper", "only": ["lr"], "optimizers": ["sgd"]},
                ]
            }
        )
    )
    assert set(parts.space.parts) == {"conv", "hyper"}
    with pytest.raises(BadInput, match=r"^space: space\.join must name each space once"):
        Parts(Search({"join": ["conv", "conv"]}))


@pytest.mark.parametrize("memo", ["off", None])
def test_a_memo_can_be_off(memo):
    parts = Parts(Search("mlp", memo=memo))
    assert parts.memoized is parts.evaluator


def test_what_cannot_work_is_refused_when_parts_are_made():
    with pytest.raises(Incompatible, match="aging_evolution takes one objective"):
        Parts(Search("mlp", "max accuracy, min params", strategy="aging_evolution"))
    with pytest.raises(UnknownMetric, match="unknown metric 'accurcy'"):
        Parts(Search("mlp", "max accurcy"))
    with pytest.raises(BadInput, match="have a baseline"):
        Parts(Search("mlp", "max accuracy >= baseline"))
    with pytest.raises(BadInput, match="batch must be at least 1"):
        Parts(Search("mlp", batch=0))
    with pytest.raises(BadInput, match=r"^evaluators\.0: .*metrics|^evaluators\.0: the function must take"):
        Parts(Search("mlp", evaluators=[two_unknowns]))
