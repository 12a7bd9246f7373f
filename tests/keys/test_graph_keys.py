"""Symbolic and structural keys: what they share, what they tell apart, and the published counts."""

from __future__ import annotations

import csv
import gzip
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import keys
from nas.errors import BadInput, Incompatible, UnknownName
from nas.keys.structural import skip_collapse, structural
from nas.keys.symbolic import Symbolic
from nas.operators import BUILTIN, Operator
from nas.space import Graph
from nas.spaces.mlp import MlpSpace
from nas.spaces.nasbench201 import OPS, NasBench201Space

CELLS = NasBench201Space()
EVERY = list(CELLS.enumerate())
DATA = Path(os.environ.get("NAS_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
X = ("input", ())


def symbolic(*nodes, **operators):
    return Symbolic({**BUILTIN, **operators})(Graph(nodes))


def partition(of):
    """Members of each class, as a set of sets of positions."""
    classes = {}
    for position, label in enumerate(of):
        classes.setdefault(label, set()).add(position)
    return {frozenset(members) for members in classes.values()}


# --- the counts of NAS-Bench-201 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [("architecture", 15_625), ("skip_collapse", 12_751), ("structural", 6_466), ("symbolic", 4_930)],
)
def test_the_15625_cells_have_the_published_number_of_keys(name, count):
    key = keys.create(name, CELLS)
    assert len({key(a) for a in EVERY}) == count


def test_structural_classes_are_the_published_ones():
    file = DATA / "nasbench201" / "nb201.csv.gz"
    if not file.exists():
        pytest.skip("needs NAS-Bench-201 in the data folder (NAS_DATA)")
    with gzip.open(file, "rt") as lines:
        rows = list(csv.DictReader(lines))
    key = keys.create("structural", CELLS)
    own = partition(key(CELLS.from_string(row["arch"])) for row in rows)
    assert len(own) == 6_466
    assert own == partition(row["unique_str"] for row in rows)


@pytest.mark.parametrize("name", ["skip_collapse", "structural"])
def test_symbolic_unites_whole_structural_classes(name):
    fine, coarse = keys.create(name, CELLS), keys.create("symbolic", CELLS)
    pairs = {(fine(a), coarse(a)) for a in EVERY}
    assert len(pairs) == len({f for f, _ in pairs})


def test_all_symbolic_keys_take_half_a_second():
    key = keys.create("symbolic", CELLS)
    start = time.process_time()
    for a in EVERY:
        key(a)
    assert time.process_time() - start < 0.5 * 3, "three times the bar, for slow machines"


# --- symbolic -----------------------------------------------------------------------------------------------


def test_names_and_order_of_nodes_do_not_count():
    one = symbolic(X, ("conv", (0,)), ("pool", (0,)), ("sum", (1, 2)))
    other = symbolic(X, ("pool", (0,)), ("conv", (0,)), ("identity", (1,)), ("sum", (2, 3)))
    assert one == other


def test_dead_nodes_do_not_count():
    assert symbolic(X, ("conv", (0,))) == symbolic(X, ("pool", (0,)), ("sum", (0, 1)), ("conv", (0,)))


def test_nesting_and_zeros_of_a_sum_do_not_count():
    flat = symbolic(X, ("a", (0,)), ("b", (0,)), ("c", (0,)), ("sum", (1, 2, 3)))
    nested = symbolic(
        X, ("a", (0,)), ("b", (0,)), ("c", (0,)), ("zero", (0,)), ("sum", (3, 1)), ("sum", (4, 2, 5))
    )
    assert flat == nested
    assert flat != symbolic(X, ("a", (0,)), ("b", (0,)), ("sum", (1, 2, 2)))


def test_an_operation_of_only_zeros_is_zero_where_that_is_declared():
    zero = symbolic(X, ("zero", (0,)))
    assert symbolic(X, ("zero", (0,)), ("nor_conv_3x3", (1,))) == zero
    assert symbolic(X, ("zero", (0,)), ("cosine", (1,))) != zero
    assert symbolic(X, ("zero", (0,)), ("cosine", (1,)), cosine=Operator(keeps_zero=True)) == zero


def test_order_of_inputs_counts_unless_commutative():
    ab = (X, X, ("f", (0, 1)))
    ba = (X, X, ("f", (1, 0)))
    assert symbolic(*ab) != symbolic(*ba)
    commutative = Operator(commutative=True)
    assert symbolic(*ab, f=commutative) == symbolic(*ba, f=commutative)


def test_an_associative_operation_keeps_its_order():
    def chain(first, second, third):
        return (X, X, X, ("concat", (first, second)), ("concat", (3, third)))

    right = (X, X, X, ("concat", (1, 2)), ("concat", (0, 3)))
    assert symbolic(*chain(0, 1, 2)) == symbolic(*right)
    assert symbolic(*chain(1, 0, 2)) != symbolic(*right)


def test_identity_and_annihilator():
    f = Operator(commutative=True, associative=True, identity="one", annihilator="zero")
    x = symbolic(X)
    assert symbolic(X, ("one", ()), ("f", (0, 1)), f=f) == x
    assert symbolic(X, ("one", ()), ("f", (1, 1)), f=f) == symbolic(("one", ()))
    assert symbolic(X, ("zero", ()), ("f", (0, 1)), f=f) == symbolic(("zero", ()))
    assert symbolic(X, ("one", ()), ("g", (0, 1)), f=f) != x


def test_an_identity_needs_an_associative_operation():
    with pytest.raises(BadInput, match="associative"):
        Operator(identity="zero")


def test_inputs_differ():
    assert symbolic(X, X, ("f", (0,))) != symbolic(X, X, ("f", (1,)))


def test_forgetting_values_changes_no_key(monkeypatch):
    key = Symbolic()
    graphs = [CELLS.graph(a) for a in EVERY[::97]]
    before = [key(g) for g in graphs]
    monkeypatch.setattr("nas.keys.symbolic.KNOWN", 5)
    assert [key(g) for g in graphs] == before


@given(st.lists(st.sampled_from(OPS), min_size=6, max_size=6), st.randoms(use_true_random=False))
def test_shuffled_cells_keep_their_keys(ops, random):
    """Listing the nodes of a cell in another topological order changes neither key."""
    names = [leaf.name for leaf in CELLS.leaves]
    graph = CELLS.graph(CELLS.architecture(dict(zip(names, ops, strict=True))))
    places, nodes, left = {0: 0}, [graph[0]], list(range(1, len(graph) - 1))
    while left:
        ready = [i for i in left if all(j in places for j in graph[i][1])]
        i = random.choice(ready)
        left.remove(i)
        places[i] = len(nodes)
        nodes.append((graph[i][0], tuple(places[j] for j in graph[i][1])))
    nodes.append((graph[-1][0], tuple(places[j] for j in graph[-1][1][::-1])))
    shuffled = Graph(nodes)
    assert Symbolic()(shuffled) == Symbolic()(graph)
    assert structural(shuffled) == structural(graph)
    assert skip_collapse(shuffled) == skip_collapse(graph)


# --- structural ---------------------------------------------------------------------------------------------


def test_structure_does_not_know_the_algebra():
    dead = (X, ("conv", (0,)), ("zero", (0,)), ("sum", (1, 2)))
    assert structural(Graph(dead)) != structural(Graph((X, ("conv", (0,)))))
    copied = (X, ("identity", (0,)), ("conv", (1,)))
    assert skip_collapse(Graph(copied)) == skip_collapse(Graph((X, ("conv", (0,)))))


def test_zero_markers():
    straight = Graph((X, ("zero", (0,)), ("conv", (1,)), ("sum", (0, 2))))
    marked = Graph((X, ("zero", (0,)), ("sum", (0, 1))))
    assert structural(straight) == structural(marked)
    assert skip_collapse(straight) != skip_collapse(marked)


def test_long_texts_are_cut_and_stay_distinct():
    def tower(op, height=60):
        nodes = [X]
        for _ in range(height):
            n = len(nodes)
            nodes += [(op, (n - 1,)), ("g", (n - 1,)), ("sum", (n, n + 1))]
        return Graph(nodes)

    assert structural(tower("f")) == structural(tower("f"))
    assert structural(tower("f")) != structural(tower("h"))
    assert structural(tower("f")) != structural(tower("f", 61))


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [Symbolic(), structural, skip_collapse])
@pytest.mark.parametrize("node", [("sum", (0, 2)), ("sum", (0, 1)), ("sum", (-1,))])
def test_a_cycle_is_refused(key, node):
    with pytest.raises(BadInput, match="read earlier nodes only"):
        key(Graph((X, node, ("conv", (1,)))))


def test_unknown_names_and_settings():
    with pytest.raises(UnknownName, match="did you mean 'symbolic'"):
        keys.create("symbolics", CELLS)
    with pytest.raises(UnknownName, match="mantissa"):
        keys.create("symbolic", CELLS, mantissa_bits=3)


def test_a_space_without_graph():
    space = MlpSpace(input_shape=(4,), classes=2)
    with pytest.raises(Incompatible, match="graph"):
        keys.create("symbolic", space)
    a = next(iter(space.enumerate()))
    assert keys.create("functional", space)(a) == a.key
