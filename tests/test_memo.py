"""The wrapper that gives known answers, and its policies."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from toys import trial

from nas import Budget, Categorical, Mixture, Study, keys, parse_objectives
from nas.errors import BadInput
from nas.evaluator import Evaluator
from nas.memo import Memoized
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.registry import create
from nas.spaces.nasbench201 import NasBench201Space
from nas.testing.problems import ToySpace

CELLS = NasBench201Space()
TEXT = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
KEY = keys.create("functional", CELLS)


def cell(*ops):
    short = {"0": "none", "-": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}
    return CELLS.from_string(TEXT.format(*(short[op] for op in ops)))


def test_keys_of_cells():
    def key(ops):
        return KEY(cell(*ops))

    assert key("300100") == key("300100")
    assert key("3-0000") == key("000000")  # nothing reaches the output
    assert key("003000") == key("000000")  # node 1 carries nothing
    assert key("3--00-") != key("3000-0")
    assert key("-00030") == key("000300")  # the same convolution behind a skip
    assert key("000300") != key("000100")


# --- the wrapper ---------------------------------------------------------------------------------------


class Counting(Evaluator):
    """Accuracy by function, params by architecture; counts what it is asked."""

    metrics = frozenset({"accuracy", "loss", "params"})
    functional = frozenset({"accuracy", "loss"})

    def __init__(self):
        self.asked = defaultdict(int)

    def evaluate(self, proposals, *, seed):
        for p in proposals:
            for metric in p.metrics:
                self.asked[metric] += 1
        return [
            Measurement({m: float(len(self.asked) * 100 + self.asked[m]) for m in p.metrics}, 5.0)
            for p in proposals
        ]


class Impure(Counting):
    pure = False


TWIN, OTHER, STRANGER = cell(*"-00030"), cell(*"000300"), cell(*"000100")
BOTH = ("accuracy", "params")


def one(memo, proposal):
    (outcome,) = memo.evaluate([proposal], seed=0)
    return outcome


def test_twins_share_accuracy_and_not_params():
    inner = Counting()
    memo = Memoized(inner, CELLS)
    first = one(memo, Proposal(TWIN, BOTH))
    second = one(memo, Proposal(OTHER, BOTH))
    assert first.reused is None
    assert second.reused == KEY(TWIN)
    assert second.values["accuracy"] == first.values["accuracy"]
    assert second.values["params"] != first.values["params"]
    assert inner.asked == {"accuracy": 1, "params": 2}
    assert one(memo, Proposal(STRANGER, BOTH)).reused is None


def test_exact_repeats_are_answered_whole_and_by_their_own_key():
    inner = Counting()
    memo = Memoized(inner, CELLS, "architecture")
    first = one(memo, Proposal(TWIN, BOTH))
    assert one(memo, Proposal(OTHER, BOTH)).reused is None
    again = one(memo, Proposal(TWIN, BOTH))
    assert again.values == first.values
    assert again.reused == TWIN.key
    assert again.seconds == 0


def test_only_missing_metrics_are_asked_for():
    inner = Counting()
    memo = Memoized(inner, CELLS)
    one(memo, Proposal(TWIN, ("accuracy",)))
    recall = memo.recall(Proposal(OTHER, ("loss", "accuracy", "params")))
    assert recall.remaining.metrics == ("loss", "params")
    assert set(recall.values) == {"accuracy"}
    assert recall.claims == {
        f"{KEY(OTHER)} loss 1.0 0",
        f"{OTHER.key} params 1.0 0",
    }
    assert set(one(memo, Proposal(OTHER, ("loss", "accuracy", "params"))).values) == inner.metrics


@pytest.mark.parametrize("changes", [{"fidelity": 0.5}, {"replicate": 1}])
def test_fidelities_and_replicates_are_apart(changes):
    inner = Counting()
    memo = Memoized(inner, CELLS)
    one(memo, Proposal(TWIN, BOTH))
    assert one(memo, Proposal(TWIN, BOTH, **changes)).reused is None
    assert one(memo, Proposal(OTHER, BOTH, **changes)).reused is not None


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal(Mixture({"edge_0_1": [1, 0, 0, 0, 0]}), ("accuracy",)),
        Proposal(TWIN, ("accuracy",), gradient="first"),
        Proposal(TWIN, ("accuracy",), samples=(1, 2)),
        Proposal(TWIN, ("accuracy",), continues=0),
    ],
)
def test_what_is_more_than_a_plain_question_passes_through(proposal):
    inner = Counting()
    memo = Memoized(inner, CELLS)
    one(memo, Proposal(TWIN, ("accuracy",)))
    assert one(memo, proposal).reused is None
    assert one(memo, proposal).reused is None
    assert inner.asked["accuracy"] == 3


def test_failures_and_values_that_are_not_finite_are_not_answers():
    memo = Memoized(Counting(), CELLS)
    memo.remember(trial(0, TWIN, accuracy=float("nan"), params=float("inf")))
    memo.remember(replace(trial(1, TWIN, accuracy=0.0), outcome=Failure("error", "no")))
    assert memo.recall(Proposal(TWIN, BOTH)).remaining.metrics == BOTH
    memo.remember(trial(2, TWIN, accuracy=0.0, params=0.0))
    assert memo.recall(Proposal(TWIN, BOTH)).remaining is None


def test_memory_is_filled_from_stored_trials_and_first_answers_stay():
    memo = Memoized(Counting(), CELLS)
    memo.remember(trial(0, TWIN, accuracy=0.5, params=1.0))
    memo.remember(trial(1, OTHER, accuracy=0.6, params=2.0))
    assert memo.recall(Proposal(TWIN, BOTH)).values == {"accuracy": 0.5, "params": 1.0}
    assert memo.recall(Proposal(OTHER, BOTH)).values == {"accuracy": 0.5, "params": 2.0}


def test_statistics_are_true():
    memo = Memoized(Counting(), CELLS)
    one(memo, Proposal(TWIN, BOTH))  # 5 s
    one(memo, Proposal(OTHER, BOTH))  # 5 s again, for params
    one(memo, Proposal(OTHER, BOTH))  # nothing
    one(memo, Proposal(TWIN, ("accuracy",)))  # nothing
    assert memo.statistics() == {
        "reused": 3, "seconds_saved": 10.0, "answers": 3, "evaluations": 2,
        "partial_hits": 0, "forgotten": 0, "rechecks": 0, "collisions": 0,
    }  # fmt: skip


def test_the_wrapper_offers_what_it_wraps():
    inner = Counting()
    inner.measured, inner.cheap, inner.multi_fidelity = (
        frozenset({"ms"}),
        frozenset({"params"}),
        frozenset({"loss"}),
    )
    memo = Memoized(inner, CELLS)
    for name in ("metrics", "functional", "measured", "cheap", "multi_fidelity"):
        assert getattr(memo, name) == getattr(inner, name)
    assert memo.worker is inner


def test_an_own_key_can_be_given():
    memo = Memoized(Counting(), CELLS, lambda _: "all the same")
    one(memo, Proposal(TWIN, ("accuracy",)))
    assert one(memo, Proposal(STRANGER, ("accuracy",))).reused == "all the same"


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(BadInput, match="does not train"):
        Memoized(Impure(), CELLS)
    with pytest.raises(BadInput, match="did you mean 'functional'"):
        Memoized(Counting(), CELLS, "fuctional")


def test_spaces_of_equal_values_do_not_mix_up_types():
    space = ToySpace([Categorical("a", (True, "True"))])
    memo = Memoized(Counting(), space)
    one(memo, Proposal(space.architecture({"a": True}), ("accuracy",)))
    assert one(memo, Proposal(space.architecture({"a": "True"}), ("accuracy",))).reused is None


# --- its policies --------------------------------------------------------------------------------------


class Noisy(Evaluator):
    """Accuracy 1, 2, 3, … in the order of asking; remembers the replicates asked for."""

    metrics = functional = frozenset({"accuracy"})

    def __init__(self, start=0.0, step=1.0):
        self.value, self.step = start, step
        self.replicates = []

    def evaluate(self, proposals, *, seed):
        out = []
        for p in proposals:
            self.value += self.step
            self.replicates.append(p.replicate)
            out.append(Measurement({"accuracy": self.value}, 2.0))
        return out


def ask(memo, *architectures):
    return [one(memo, Proposal(a, ("accuracy",))) for a in architectures]


def test_repeats_are_averaged_and_then_reused():
    inner = Noisy()
    memo = Memoized(inner, CELLS, repeats=3)
    outcomes = ask(memo, TWIN, OTHER, TWIN, OTHER)
    assert [o.values["accuracy"] for o in outcomes] == [1.0, 1.5, 2.0, 2.0]
    assert [o.reused for o in outcomes] == [None, None, None, KEY(TWIN)]
    assert [o.notes.get("repeats.accuracy") for o in outcomes] == [None, 2, 3, None]
    assert inner.replicates == [0, 1, 2]
    found = memo.statistics()
    assert (found["evaluations"], found["partial_hits"], found["reused"]) == (3, 2, 1)


def test_repeats_are_known_again_from_stored_trials():
    memo, again = (Memoized(Noisy(), CELLS, repeats=3) for _ in range(2))
    for number, a in enumerate((TWIN, OTHER)):
        (outcome,) = ask(memo, a)
        again.remember(Trial(number, Proposal(a, ("accuracy",)), outcome))
    assert again.recall(Proposal(TWIN, ("accuracy",))).running == {"accuracy": (1.5, 2)}


def test_metrics_that_are_not_functional_are_not_repeated():
    memo = Memoized(Counting(), CELLS, repeats=3)
    one(memo, Proposal(TWIN, ("params",)))
    assert one(memo, Proposal(TWIN, ("params",))).reused == TWIN.key


def test_a_forgotten_key_is_evaluated_again():
    memo = Memoized(Noisy(), CELLS, forget=1.0)
    outcomes = ask(memo, TWIN, OTHER, TWIN)
    assert [o.values["accuracy"] for o in outcomes] == [1.0, 1.0, 2.0]
    assert memo.statistics()["forgotten"] == 1


def test_forgetting_follows_the_seed():
    def history(seed):
        memo = Memoized(Noisy(), CELLS, forget=0.3, seed=seed)
        return [o.values["accuracy"] for o in ask(memo, *[TWIN] * 60)]

    assert history(0) == history(0) != history(1)
    assert 5 < history(0)[-1] < 30


def test_a_recheck_finds_what_should_not_have_been_shared():
    memo = Memoized(Noisy(), CELLS, recheck=1.0)
    first, second = ask(memo, TWIN, OTHER)
    assert (second.values["accuracy"], second.reused) == (2.0, None)
    assert second.notes == {"known.accuracy": first.values["accuracy"]}
    assert memo.recall(Proposal(TWIN, ("accuracy",))).expected == {"accuracy": 1.0}, "the first answer stays"
    found = memo.statistics()
    assert (found["rechecks"], found["collisions"], found["reused"]) == (1, 1, 0)


@pytest.mark.parametrize(("noise", "collisions"), [(0.0, 9), (2.0, 7), (100.0, 0)])
def test_noise_is_no_collision(noise, collisions):
    memo = Memoized(Noisy(), CELLS, recheck=1.0, noise=noise)
    ask(memo, *[TWIN] * 10)
    assert memo.statistics()["collisions"] == collisions


def test_a_share_of_answers_is_rechecked():
    inner = Noisy(step=0.0)
    memo = Memoized(inner, CELLS, recheck=0.2)
    ask(memo, *[TWIN] * 200)
    found = memo.statistics()
    assert 20 <= found["rechecks"] <= 65
    assert found["collisions"] == 0
    assert found["rechecks"] + found["reused"] == 199


def test_keys_of_errors_share_nothing():
    memo = Memoized(Noisy(), CELLS, lambda _: f"{keys.ERROR}not finite")
    outcomes = ask(memo, TWIN, OTHER, TWIN)
    assert [o.values["accuracy"] for o in outcomes] == [1.0, 2.0, 1.0]
    assert outcomes[2].reused == TWIN.key


@pytest.mark.parametrize(
    "settings", [{"repeats": 0}, {"repeats": True}, {"forget": 1.5}, {"recheck": -0.1}, {"noise": -1.0}]
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(BadInput, match=rf"memo\.{name}"):
        Memoized(Noisy(), CELLS, **settings)


def test_a_study_counts_repeats_as_evaluations():
    """Four proposals of one key, of which the first two are evaluated."""
    objectives = parse_objectives("max accuracy")
    space = ToySpace([Categorical("a", (0, 1))])

    def study():
        memo = Memoized(Noisy(), space, lambda _: "one", repeats=2)
        strategy = create("strategy", "random", {"space": space, "objectives": objectives})
        return Study(space, objectives, memo, strategy, seed=0)

    whole = study()
    whole.run(Budget(trials=4))
    assert [t.values["accuracy"] for t in whole.history.trials] == [1.0, 1.5, 1.5, 1.5]
    assert whole.spent.evaluations == 2
