"""ShiftNAS: bins, gaps, and a generator that hits a wanted complexity."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from toys import OF_PATHS, counted, ten_batches

from nas import Categorical
from nas.errors import BadInput
from nas.estimators.cost import CostEvaluator
from nas.evaluator import Known
from nas.proposal import Measurement
from nas.registry import create
from nas.rng import stream
from nas.snapshot import packed, unpacked
from nas.spaces.conv import ConvSpace
from nas.spaces.mlp import MlpSpace
from nas.strategies.complexity_generator import ComplexityGenerator
from nas.strategies.shift import Shift
from nas.testing import drive
from nas.testing.problems import ToySpace


def widths():
    return ToySpace([Categorical("width", (8, 16, 24, 32))])


def made(space=None, **settings):
    space = space or widths()
    own = {"bins": 4, "spacing": "linear", "warm_up": 0.2, "epochs": 40, "iterations": 20}
    spec = {"name": "shift", **OF_PATHS["shift"], **own, **settings}
    return create("strategy", spec, {"space": space, "task": ten_batches(), "known": counted(space)})


def small_ones_lag(proposal):
    """Gaps of 4, 2, 1.33 and 1 from the smallest width to the largest."""
    gap = 32.0 / proposal.candidate["width"]
    return Measurement({m: gap if m.startswith("val") else 1.0 for m in proposal.metrics})


def trained(trials):
    return Counter(t.proposal.candidate["width"] for t in trials if "train_loss" in t.proposal.metrics)


def test_bins_with_larger_gaps_are_drawn_more_often():
    shift = made()
    trials = drive(shift, small_ones_lag, 10_000, batch=1)
    gaps = np.array([4.0, 2.0, 4 / 3, 1.0])
    logits = gaps / gaps.mean()
    assert np.allclose(shift.gaps, gaps)
    assert np.allclose(shift.probabilities, np.exp(logits) / np.exp(logits).sum())
    late = trained(trials[100:])
    assert late[8] > 1.5 * late[16] > 1.5 * late[32]
    assert 8 / 40 < trained(trials[:80])[8] / 80 * 2 < 1.0  # uniform in the warm-up


def test_the_sign_of_the_gap_can_be_turned_around():
    shift = made(favour="converged")
    trials = drive(shift, small_ones_lag, 10_000, batch=1)
    assert list(np.argsort(shift.probabilities)) == [0, 1, 2, 3]
    late = trained(trials[100:])
    assert late[32] > 1.5 * late[8]
    even = made(favour="none")
    drive(even, small_ones_lag, 300, batch=1)
    assert np.allclose(even.probabilities, 0.25)


def test_gaps_are_asked_for_one_of_each_bin_between_the_steps():
    trials = drive(made(), small_ones_lag, 10_000, batch=1)
    looks = [i for i, t in enumerate(trials) if t.proposal.metrics == ("val_loss",)]
    assert looks[:8] == [80, 81, 82, 83, 94, 95, 96, 97]
    assert len(looks) == 4 * 32
    assert [trials[i].proposal.candidate["width"] for i in looks[:4]] == [8, 16, 24, 32]


def test_a_gap_that_is_not_finite_stays_what_it_was():
    shift = made()
    drive(shift, small_ones_lag, 120, batch=1)
    before = shift.gaps.copy()

    def broken(proposal):
        return Measurement(dict.fromkeys(proposal.metrics, float("nan")))

    while shift.group == 1:
        shift.tell([_trial(p, broken) for p in shift.ask(1, stream(1))], stream(1))
    shift.tell([_trial(p, broken) for p in shift.ask(shift.group, stream(1))], stream(1))
    assert np.array_equal(shift.gaps, before)


def _trial(proposal, evaluate):
    from nas.proposal import Trial

    return Trial(0, proposal, evaluate(proposal))


def test_empty_bins_are_left_out():
    shift = made(ToySpace([Categorical("width", (1, 2, 100))]))
    shift.tell((), stream(0))
    drive(shift, lambda p: Measurement(dict.fromkeys(p.metrics, 1.0)), 120, batch=1)
    assert np.allclose(shift.edges, ((11.0, 12.0), (110.0, 110.0)))


def test_a_complexity_that_is_not_known_is_refused():
    with pytest.raises(BadInput, match="metric must be a cheap metric"):
        Shift(widths(), ten_batches())
    with pytest.raises(BadInput, match="unknown favour 'small'"):
        made(favour="small")


def slimmable(task):
    return MlpSpace(task, layers=3, widths=(16, 32, 48, 64, 96, 128))


def convolutional(task):
    return ConvSpace(task, stages=2, depth=2)


@pytest.mark.parametrize("space", [slimmable, convolutional], ids=["mlp", "conv"])
def test_the_generator_hits_a_wanted_complexity(space):
    task = ten_batches()
    space = space(task)
    known = Known(CostEvaluator(space, task), 0)

    def costs(architectures):
        return [row["macs"] for row in known.values(architectures, ["macs"])]

    generator = ComplexityGenerator(space, costs, samples=192, iterations=120)
    generator.fit(stream(0, "fit"))
    rng = stream(1, "generate")
    wanted = costs([space.sample(rng) for _ in range(30)])
    found = [generator.generate(w, rng) for w in wanted]
    assert np.mean(np.abs(np.array(costs(found)) / wanted - 1.0)) < 0.02
    assert all(space.feasible(a) and space.architecture(a) == a for a in found)
    assert len({generator.generate(wanted[0], rng) for _ in range(10)}) > 1

    other = ComplexityGenerator(space, costs, samples=192, iterations=120)
    other.adopt(unpacked(packed(generator.state(), 0))[0])
    assert other.generate(wanted[0], stream(2)) == generator.generate(wanted[0], stream(2))


def test_the_generator_keeps_to_feasible_architectures():
    space = ToySpace(
        [Categorical("a", (1, 2, 3, 4)), Categorical("b", (1, 2, 3, 4))], lambda x: x["a"] + x["b"] < 6
    )
    generator = ComplexityGenerator(space, lambda found: [float(x["a"] * x["b"]) for x in found], 16, 20)
    generator.fit(stream(0))
    assert generator.known.max() == 6.0
    assert all(space.feasible(generator.generate(16.0, stream(i))) for i in range(20))


def test_fitting_leaves_torchs_generator_alone():
    import torch

    before = torch.random.get_rng_state()
    generator = ComplexityGenerator(widths(), lambda found: [float(a["width"]) for a in found], 8, 5)
    generator.fit(stream(0))
    assert torch.equal(before, torch.random.get_rng_state())
