"""Spaces: counting, enumerating, checking, sampling, graphs and what they offer."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, mixed_space, plain_space, spaces

from nas import Adaptation, BadInput, Categorical, Fixed, Graph, Infeasible, Integer, Mixture, Real, When
from nas.rng import stream


def _brute_force(space):
    """Every combination of all decisions' values, made canonical."""
    names = [leaf.name for leaf in space.leaves]
    combinations = itertools.product(*(leaf.values for leaf in space.leaves))
    return {space.architecture(dict(zip(names, c, strict=True))) for c in combinations}


@settings(max_examples=60)
@given(spaces(reals=False))
def test_size_and_enumeration_agree_with_brute_force(space):
    every = list(space.enumerate())
    assert set(every) == _brute_force(space)
    assert len(every) == len(set(every)) == space.size


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (plain_space(6, 5), 5**6),
        (conditional_space(), (5 + 5**2 + 5**3) * 17),
        (mixed_space(), math.inf),
        (plain_space(80, 10), 10**80),
        (ToySpace([]), 1),
        (ToySpace([Real("r", 1.0, 1.0)]), 1),
    ],
)
def test_sizes_are_exact_whatever_their_magnitude(space, size):
    assert space.size == size


def test_a_real_decision_that_is_never_active_counts_nothing():
    space = ToySpace([Categorical("a", ("x",)), Real("r", 0, 1, when=(When("a", "x"), When("b", 1)))])
    space.decisions.insert(1, Integer("b", 0, 1))
    assert space.size == math.inf
    off = [Categorical("a", ("x", "y")), Integer("b", 0, 1, when=When("a", "x"))]
    never = Real("r", 0, 1, when=(When("a", "y"), When("b", 1)))
    assert ToySpace([*off, never]).size == 3


def test_infeasible_architectures_are_neither_sampled_nor_enumerated():
    space = ToySpace(plain_space(2, 3).decisions, lambda a: a["d0"] + a["d1"] == 2)
    assert {(a["d0"], a["d1"]) for a in space.enumerate()} == {(0, 2), (1, 1), (2, 0)}
    rng = stream(0)
    assert Counter(space.sample(rng)["d0"] for _ in range(300)).keys() == {0, 1, 2}


def test_a_space_without_feasible_architectures_says_so():
    with pytest.raises(Infeasible, match="must have feasible architectures, got none in 10,000"):
        ToySpace(plain_space(2, 3).decisions, lambda _a: False).sample(stream(0))


def test_sampling_is_uniform_over_each_active_decision():
    rng = stream(5)
    draws = [conditional_space().sample(rng) for _ in range(3000)]
    depth = Counter(a["block.depth"] for a in draws)
    assert [depth[k] / 3000 for k in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.03)
    kernels = Counter(a.get("block.0.kernel") for a in draws)
    assert [kernels[k] / 3000 for k in (3, 5, 7)] == pytest.approx([1 / 9] * 3, abs=0.02)


def test_choices_are_checked_and_inactive_ones_dropped():
    space = conditional_space()
    choice = {"block.depth": 1.0, "block.0.op": "pool", "head": "linear"}
    a = space.architecture({**choice, "block.0.kernel": 3, "head.mlp.width": "nonsense"})
    assert a.to_json() == {"block.depth": 1, "block.0.op": "pool", "head": "linear"}
    assert type(a["block.depth"]) is int
    assert list(space.architecture(dict(reversed(choice.items())))) == list(a)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"block.dept": 1}, "unknown decision 'block.dept'; did you mean 'block.depth'?"),
        ({"block.depth": 1, "head": "linear"}, "an architecture must choose block.0.op"),
        ({"block.depth": 9}, r"block.depth must lie in \[1, 3\], got 9"),
    ],
)
def test_wrong_choices_are_refused_in_words(choices, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        conditional_space().architecture(choices)


def test_completion_keeps_what_is_given_and_draws_the_rest():
    space, rng = conditional_space(), stream(6)
    for _ in range(100):
        a = space.complete({"block.depth": 2, "block.1.op": "conv", "block.2.op": "skip"}, rng)
        assert (a["block.depth"], a["block.1.op"]) == (2, "conv")
        assert "block.2.op" not in a
        assert space.architecture(a) == a


def test_signatures_tell_spaces_apart():
    assert plain_space().signature == plain_space().signature
    others = [plain_space(5), plain_space(6, 4), conditional_space(), mixed_space()]
    assert len({space.signature for space in [plain_space(), *others]}) == 5


def test_graphs_are_read_in_topological_order():
    graph = Graph([("input", ()), ("conv", (0,)), ("sum", (0, 1, 1))])
    assert graph.checked() is graph
    nx = graph.to_networkx()
    assert (nx.number_of_nodes(), nx.number_of_edges()) == (3, 4)
    assert sorted(d["position"] for _, _, d in nx.in_edges(2, data=True)) == [0, 1, 2]
    for cycle in ([("a", (0,))], [("a", (1,)), ("b", ())], [("a", (-1,))]):
        with pytest.raises(BadInput, match=r"graph node 0 \(a\) must read earlier nodes only"):
            Graph(cycle).checked()


def test_spaces_offer_what_strategies_may_need():
    def offers(space):
        return space.offers(space.sample(stream(0)))

    assert offers(plain_space()) == {"decisions", "finite", "categorical"}
    assert offers(conditional_space()) == {"decisions", "finite"}
    assert offers(mixed_space()) == {"decisions"}

    class WithGraph(ToySpace.__base__):
        decisions = (Categorical("a", ("x", "y")),)

        def build(self, architecture):
            raise NotImplementedError

        def graph(self, architecture):
            return Graph([("input", ())])

    assert offers(WithGraph()) == {"decisions", "finite", "categorical", "graph"}


def test_modules_come_from_architectures_and_fixed_factories():
    space = plain_space()
    assert space.module(space.sample(stream(0))).out_features == 2
    assert space.module(Fixed("collections:OrderedDict")) == {}
    with pytest.raises(BadInput, match="candidate must be an architecture to be built"):
        space.module(Mixture({"d0": [1.0]}))


@given(seed=st.integers(0, 1000))
def test_an_adaptation_changes_its_own_model(seed):
    class Rename(Adaptation):
        decisions = (Integer("n", 0, 9),)

        def adapt(self, module, architecture):
            return {**module, "n": architecture["n"]}

    space = Rename()
    a = space.sample(stream(seed))
    with pytest.raises(BadInput, match=r"^Rename\.model must be a factory of the module to adapt"):
        space.build(a)
    space.model = lambda: {"base": True}
    assert space.build(a) == {"base": True, "n": a["n"]}
