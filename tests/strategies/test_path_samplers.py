"""What holds of all path samplers, and of each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from toys import OF_PATHS, conditional_space, counted, plain_space, ten_batches

from nas import Categorical, Integer, Repeat
from nas.errors import BadInput
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.registry import create
from nas.rng import stream
from nas.snapshot import packed, unpacked
from nas.strategies.extremes import largest, size_of, smallest
from nas.strategies.pada import pairwise_mean, smoothed
from nas.strategies.progressive import default_stages
from nas.testing import drive
from nas.testing.drive import proceed
from nas.testing.problems import ToySpace

EDGES = ("none", "skip", "conv1x1", "conv3x3", "pool")


def cell():
    return ToySpace([Categorical(f"edge{i}", EDGES) for i in range(3)])


def made(name, space, known=None, **settings):
    offers = {"space": space, "task": ten_batches(), "known": known or counted(space)}
    return create("strategy", {"name": name, **OF_PATHS[name], **settings}, offers)


def answer(proposal):
    """A supernet whose convolutions have gradients of 2 and 3, and whose even samples are easy."""
    norms = {"conv1x1": 2.0, "conv3x3": 3.0}
    vectors = {f"gradient_norm.{k}": np.array([norms.get(v, 0.0)]) for k, v in proposal.candidate.items()}
    if proposal.samples is not None:
        vectors["sample_norm"] = np.array([0.1 if i % 2 == 0 else 1.0 for i in proposal.samples])
    values = {"val_loss": 1.0 + 0.1 * len(proposal.candidate)}
    return Measurement({m: values.get(m, 1.0) for m in proposal.metrics}, vectors=vectors)


def rounds(trials):
    return [[t for t in trials if t.batch == b] for b in dict.fromkeys(t.batch for t in trials)]


@pytest.mark.parametrize("name", sorted(OF_PATHS))
@pytest.mark.parametrize("space", [cell, conditional_space], ids=["cell", "conditional"])
def test_a_restored_sampler_goes_on_as_if_nothing_had_happened(name, space):
    space = space()
    straight = drive(made(name, space), answer, 10_000, batch=1)
    before = made(name, space)
    done = drive(before, answer, 77, batch=1)
    state, told = unpacked(packed(before.snapshot(), len(done)))
    after = made(name, space)
    after.tell((), stream(0, "tell", -1))
    after.restore(state)
    resumed = proceed(after, answer, 10_000, done[:told], batch=1)
    assert [t.proposal for t in resumed] == [t.proposal for t in straight]


@pytest.mark.parametrize("name", sorted(OF_PATHS))
def test_the_schedule_has_all_steps_and_fidelity_says_where_it_is(name):
    trials = drive(made(name, cell()), answer, 10_000, batch=1)
    steps = [group for group in rounds(trials) if "train_loss" in group[0].proposal.metrics]
    assert [group[0].proposal.fidelity for group in steps] == [(i + 1) / 100 for i in range(100)]
    assert all(len({t.proposal.fidelity for t in group}) == 1 for group in steps)


@pytest.mark.parametrize("name", sorted(OF_PATHS))
def test_failed_steps_count_as_steps(name):
    def fails(proposal):
        return Failure("diverged", "as planned")

    steps = rounds(drive(made(name, cell()), fails, 10_000, batch=1))
    assert sum("train_loss" in group[0].proposal.metrics for group in steps) == 100


def test_epochs_must_be_whole():
    with pytest.raises(BadInput, match="epochs must be a whole number of at least 1, got 0"):
        made("uniform", cell(), epochs=0)


# --- fair ---------------------------------------------------------------------------------------------------


def test_fair_trains_each_option_once_a_step():
    for group in rounds(drive(made("fair", cell(), paths=None), answer, 200, batch=1)):
        for edge in ("edge0", "edge1", "edge2"):
            assert sorted(t.proposal.candidate[edge] for t in group) == sorted(EDGES)


def test_fair_permutes_each_decision_on_its_own():
    groups = rounds(drive(made("fair", cell(), paths=None), answer, 200, batch=1))
    pairs = Counter((t.proposal.candidate["edge0"], t.proposal.candidate["edge1"]) for g in groups for t in g)
    assert len(pairs) == 25


def test_fair_with_other_numbers_of_options_is_even_over_a_cycle():
    space = ToySpace([Categorical("a", tuple("uvwxy")), Categorical("b", tuple("xyz")), Integer("c", 0, 1)])
    trials = drive(made("fair", space, paths=None), answer, 10_000, batch=1)
    assert len(trials) == 500
    for name, cycle in (("a", 1), ("b", 3), ("c", 2)):
        for steps in range(1, 31):
            uses = Counter(t.proposal.candidate[name] for t in trials[: 5 * steps]).values()
            most = max(uses) - min(uses)
            assert most == 0 if steps % cycle == 0 else most == 1


def test_fair_deals_conditional_decisions_over_the_paths_that_have_them():
    space = conditional_space()
    trials = drive(made("fair", space), answer, 10_000, batch=1)
    for leaf in space.leaves:
        uses = Counter(t.proposal.candidate[leaf.name] for t in trials if leaf.name in t.proposal.candidate)
        assert len(uses) == leaf.size
        assert max(uses.values()) - min(uses.values()) <= 1


def test_fair_wants_to_know_the_paths_where_options_are_many():
    with pytest.raises(BadInput, match="paths must be given where a decision has more than 64 options"):
        made("fair", ToySpace([Integer("a", 1, 100)]), paths=None)


# --- sandwich -----------------------------------------------------------------------------------------------


def test_sandwich_begins_with_the_largest_and_the_smallest():
    space = ToySpace([Integer("width", 1, 9), Categorical("kernel", (5, 3, 7))])
    for group in rounds(drive(made("sandwich", space), answer, 100, batch=1)):
        first, second, *drawn = [dict(t.proposal.candidate) for t in group]
        assert first == {"width": 9, "kernel": 7}
        assert second == {"width": 1, "kernel": 3}
        assert len(drawn) == 2


def test_known_costs_say_which_operation_is_large():
    space = cell()
    macs = {"none": 0, "skip": 0, "conv1x1": 1, "conv3x3": 9, "pool": 0}
    assert set(largest(space, size_of(space, None, "macs")).values()) == {"pool"}  # by position
    assert set(largest(space, lambda a: sum(macs[v] for v in a.values())).values()) == {"conv3x3"}
    assert set(smallest(space, lambda a: sum(macs[v] for v in a.values())).values()) == {"none"}


def test_a_stride_that_makes_smaller_is_seen_in_the_cost():
    space = ToySpace([Categorical("stride", (1, 2)), Integer("width", 1, 4)])
    assert dict(largest(space, lambda a: a["width"] / a["stride"])) == {"stride": 1, "width": 4}


def test_largest_has_all_repetitions_and_smallest_the_fewest():
    space = ToySpace([Repeat("layer", Integer("count", 1, 3), [Categorical("width", (8, 16))])])
    size = size_of(space, None, "macs")
    assert dict(largest(space, size)) == {
        "layer.count": 3,
        **{f"layer.{i}.width": 16 for i in range(3)},
    }
    assert dict(smallest(space, size)) == {"layer.count": 1, "layer.0.width": 8}


def test_extremes_are_feasible():
    space = ToySpace([Integer("a", 0, 9), Integer("b", 0, 9)], lambda a: 4 <= a["a"] + a["b"] <= 11)
    size = size_of(space, None, "macs")
    assert sum(largest(space, size).values()) == 11
    assert sum(smallest(space, size).values()) == 4


# --- progressive --------------------------------------------------------------------------------------------


def once_for_all():
    block = [Categorical("kernel", (3, 5, 7)), Categorical("expand", (3, 4, 6))]
    return ToySpace([Repeat("block", Integer("depth", 2, 4), block)])


def test_progressive_unlocks_kernels_then_depth_then_expansion():
    trials = drive(made("progressive", once_for_all()), answer, 10_000, batch=1)
    steps = rounds(trials)

    def seen(first, last, kind):
        paths = [t.proposal.candidate for group in steps[first:last] for t in group]
        return {v for a in paths for k, v in a.items() if k.endswith(kind)}

    assert [seen(0, 30, k) for k in ("kernel", "depth", "expand")] == [{7}, {4}, {6}]
    assert [seen(30, 34, k) for k in ("kernel", "depth", "expand")] == [{5, 7}, {4}, {6}]
    assert [seen(34, 53, k) for k in ("kernel", "depth", "expand")] == [{3, 5, 7}, {4}, {6}]
    assert [seen(57, 76, k) for k in ("kernel", "depth", "expand")] == [{3, 5, 7}, {2, 3, 4}, {6}]
    assert seen(81, 100, "expand") == {3, 4, 6}
    assert [len(steps[i]) for i in (0, 40, 60, 90)] == [1, 1, 2, 4]


def test_progressive_takes_stages_by_patterns():
    stages = [
        {"share": 0.5},
        {"share": 0.5, "unlock": ["block.*.kernel"], "options": 2, "paths": 3},
    ]
    steps = rounds(drive(made("progressive", once_for_all(), stages=stages), answer, 10_000, batch=1))
    assert {len(group) for group in steps[50:]} == {3}
    paths = [t.proposal.candidate for group in steps[50:] for t in group]
    assert {a["block.2.kernel"] for a in paths} == {5, 7}
    assert {(a["block.depth"], a["block.2.expand"]) for a in paths} == {(4, 6)}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"share": 0.5}], "shares that add up to 1"),
        ([{"share": 1.0, "unlock": "*.kernels"}], "stages.unlock must fit a decision"),
        ([{"share": 1.0, "open": "*"}], "stages.0: a stage must have the keys"),
        ([], "stages must be a list"),
    ],
)
def test_progressive_refuses_stages_that_make_no_schedule(stages, said):
    with pytest.raises(BadInput, match=said):
        made("progressive", once_for_all(), stages=stages)


def test_default_shares_add_up_to_one():
    for space in (cell(), conditional_space(), once_for_all(), plain_space()):
        assert sum(stage.share for stage in default_stages(space)) == pytest.approx(1.0)


# --- pada ---------------------------------------------------------------------------------------------------


def told(strategy, at, candidate, norms, samples=(), sample_norms=()):
    metrics = ("train_loss", "gradient_norm")
    proposal = Proposal(strategy.space.architecture(candidate), metrics, samples=tuple(samples))
    vectors = {f"gradient_norm.{k}": np.array([n]) for k, n in norms.items()}
    vectors["sample_norm"] = np.array(sample_norms)
    strategy.tell([Trial(at, proposal, Measurement({"train_loss": 1.0}, vectors=vectors))], stream(0, at))


def test_pada_updates_importance_as_published():
    pada = made("pada", cell(), epochs=4)
    pada.tell((), stream(0))
    one = {"edge0": "conv3x3", "edge1": "conv3x3", "edge2": "skip"}
    told(pada, 0, one, {"edge0": 4.0, "edge1": 2.0, "edge2": 0.0}, (0, 1), (0.5, 1.0))  # conv3x3: 3
    told(pada, 1, one, {"edge0": 1.0, "edge1": 1.0, "edge2": 0.0}, (1,), (0.0,))  # conv3x3: (3 + 1) / 2
    two = {"edge0": "conv1x1", "edge1": "pool", "edge2": "pool"}
    told(pada, 2, two, {"edge0": 6.0, "edge1": 0.0, "edge2": 0.0})
    assert np.allclose(pada.probabilities("edge0"), 0.2)
    for at in range(3, 10):
        told(pada, at, two, {"edge0": 6.0, "edge1": 0.0, "edge2": 0.0})
    t = 1 / 4
    expected = t * np.array([0, 0, 6, 2, 0]) / 8 + (1 - t) / 5
    for edge in ("edge0", "edge1", "edge2"):
        assert np.allclose(pada.probabilities(edge), expected)
    q = np.full(80, (1 - t) / 80)
    q[:2] += t * 0.5
    assert np.allclose(pada.q, q)


def test_pada_ends_with_the_convolutions():
    pada = made("pada", cell())
    trials = drive(pada, answer, 10_000, batch=1)
    p = dict(zip(EDGES, pada.probabilities("edge0"), strict=True))
    assert p["conv3x3"] + p["conv1x1"] > 0.9
    assert p["conv3x3"] == pytest.approx(1.5 * p["conv1x1"], rel=0.05)
    last = [v for t in trials[-10:] for v in t.proposal.candidate.values()]
    assert sum(v.startswith("conv") for v in last) >= 20


def test_pada_draws_samples_with_replacement_and_hard_ones_more_often():
    trials = drive(made("pada", cell()), answer, 10_000, batch=1)
    epochs = [[i for t in trials[e * 10 : e * 10 + 10] for i in t.proposal.samples] for e in range(10)]
    assert all(len(epoch) == 80 and max(epoch) < 80 for epoch in epochs)
    assert all(len(set(epoch)) < 80 for epoch in epochs)
    odd = [sum(i % 2 for i in epoch) / 80 for epoch in epochs]
    assert odd[-1] > 0.7 > odd[0]
    drawn_before = set(epochs[-2])
    assert sum(i in drawn_before for i in epochs[-1]) > 65


def test_pada_leaves_what_has_no_norm_uniform():
    pada = made("pada", ToySpace([Categorical("width", (8, 16, 32))]))
    drive(pada, lambda _: Measurement({"train_loss": 1.0}), 10_000, batch=1)
    assert np.allclose(pada.probabilities("width"), 1 / 3)
    assert np.allclose(pada.q, 1 / 80)


def test_smoothing_never_gives_zero_below_one():
    assert smoothed(np.array([0.0, np.nan, 2.0]), 0.9).min() == pytest.approx(0.1 / 3)
    assert smoothed(np.array([0.0, 2.0]), 1.0).tolist() == [0.0, 1.0]
    assert pairwise_mean(np.nan, 3.0) == 3.0
    assert pairwise_mean(1.0, 3.0) == 2.0
