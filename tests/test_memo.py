"""Which architectures share which answers, and the wrapper that gives them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from toys import plain_space, trial

from nas import Categorical, Mixture
from nas.errors import BadInput
from nas.evaluator import Evaluator
from nas.memo import Memoized, architecture_key, functional_key, symbolic_key
from nas.proposal import Failure, Measurement, Proposal
from nas.space import Graph
from nas.spaces.hyper import HyperSpace
from nas.spaces.join import Join
from nas.spaces.nasbench201 import NasBench201Space
from nas.testing.problems import ToySpace

CELLS = NasBench201Space()
TEXT = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


def cell(*ops):
    short = {"0": "none", "-": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}
    return CELLS.from_string(TEXT.format(*(short[op] for op in ops)))


def key(*ops):
    return functional_key(CELLS, cell(*ops))


def graph(*nodes):
    return symbolic_key(Graph([("input", ()), *nodes]))


# --- the key ------------------------------------------------------------------------------------------


def test_the_cells_of_nasbench201_have_4930_keys():
    assert len({functional_key(CELLS, a) for a in CELLS.enumerate()}) == 4930


def test_zeros_contribute_nothing_and_stay_zero():
    assert graph(("zero", ()), ("conv", (0,)), ("sum", (1, 2))) == graph(("conv", (0,)))
    assert graph(("zero", ()), ("conv", (1,))) == graph(("zero", ())) == graph(("zero", ()), ("pool", (1,)))
    assert graph(("zero", ()), ("sum", (1, 1))) == graph(("zero", ()))
    assert graph(("zero", ())) != graph(("identity", (0,)))


def test_identities_pass_on_and_sums_commute_and_associate():
    assert graph(("identity", (0,)), ("conv", (1,))) == graph(("conv", (0,)))
    one, other = ("conv", (0,)), ("pool", (0,))
    assert graph(one, other, ("sum", (1, 2))) == graph(other, one, ("sum", (1, 2)))
    assert graph(one, other, ("sum", (0, 1)), ("sum", (2, 3))) == graph(one, other, ("sum", (0, 1, 2)))
    assert graph(("sum", (0, 0))) != graph(("identity", (0,)))  # twice the input


def test_dead_branches_and_the_order_of_nodes_do_not_count():
    assert graph(("conv", (0,)), ("pool", (0,)), ("conv", (2,))) == graph(("pool", (0,)), ("conv", (1,)))


def test_names_depths_and_the_order_of_inputs_count():
    assert graph(("conv", (0,))) != graph(("pool", (0,)))
    assert graph(("conv", (0,))) != graph(("conv", (0,)), ("conv", (1,)))
    a, b = ("a", (0,)), ("b", (0,))
    assert graph(a, b, ("minus", (1, 2))) != graph(a, b, ("minus", (2, 1)))
    assert graph(a, b, ("c", (1,)), ("c", (2,)), ("sum", (3, 4))) != graph(a, b, ("sum", (1, 2)), ("c", (3,)))
    two = [("input", ()), ("input", ()), ("conv", (0,))], [("input", ()), ("input", ()), ("conv", (1,))]
    assert symbolic_key(Graph(two[0])) != symbolic_key(Graph(two[1]))


def test_keys_of_cells():
    assert key(*"300100") == key(*"300100")
    assert key(*"3-0000") == key(*"000000")  # nothing reaches the output
    assert key(*"003000") == key(*"000000")  # node 1 carries nothing
    assert key(*"3--00-") != key(*"3000-0")
    assert key(*"-00030") == key(*"000300")  # the same convolution behind a skip
    assert key(*"000300") != key(*"000100")


def test_spaces_without_a_graph_have_their_own_keys():
    space = plain_space()
    a, b = (
        space.architecture(dict.fromkeys(space.by_name, 0)),
        space.architecture(dict.fromkeys(space.by_name, 1)),
    )
    assert functional_key(space, a) == a.key != functional_key(space, b)
    assert architecture_key(space, a) == a.key


def test_a_joint_space_combines_the_keys_of_its_parts():
    hyper = HyperSpace()
    joint = Join({"cell": CELLS, "hyper": hyper})
    recipes = [a for a, _ in zip(_samples(hyper), range(2), strict=False)]

    def joined(a, recipe):
        choices = {f"cell.{k}": v for k, v in a.items()} | {f"hyper.{k}": v for k, v in recipe.items()}
        return functional_key(joint, joint.architecture(choices))

    twin, other = cell(*"-00030"), cell(*"000300")
    assert joined(twin, recipes[0]) == joined(other, recipes[0])
    assert joined(twin, recipes[0]) != joined(twin, recipes[1])


def _samples(space):
    from nas.rng import stream

    return (space.sample(stream(i)) for i in range(1000))


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
    assert second.reused == functional_key(CELLS, TWIN)
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
        f"{functional_key(CELLS, OTHER)} loss 1.0 0",
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
    assert memo.statistics() == {"reused": 3, "seconds_saved": 10.0, "answers": 3}


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
    memo = Memoized(Counting(), CELLS, lambda *_: "all the same")
    one(memo, Proposal(TWIN, ("accuracy",)))
    assert one(memo, Proposal(STRANGER, ("accuracy",))).reused == "all the same"


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(BadInput, match="does not train"):
        Memoized(Impure(), CELLS)
    with pytest.raises(BadInput, match=r"memo\.key must be one of functional, architecture"):
        Memoized(Counting(), CELLS, "fuctional")


def test_spaces_of_equal_values_do_not_mix_up_types():
    space = ToySpace([Categorical("a", (True, "True"))])
    memo = Memoized(Counting(), space)
    one(memo, Proposal(space.architecture({"a": True}), ("accuracy",)))
    assert one(memo, Proposal(space.architecture({"a": "True"}), ("accuracy",))).reused is None
