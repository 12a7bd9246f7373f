"""The network of NAS-Bench-201 against the published table, and the cell's graph."""

from __future__ import annotations

import itertools

import networkx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.nasbench201 import OPS, Cell, NasBench201Space, Reduction, operation

SPACE = NasBench201Space()
EDGES = ("edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3")
NONE = {(int(name[5]), int(name[7])): "none" for name in EDGES}


def cell_of(ops):
    return SPACE.architecture(dict(zip(EDGES, ops, strict=True)))


def fixed(ops, channels):
    return Cell({edge: operation(op, channels) for edge, op in ops.items()})


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_decisions_are_the_edges_in_the_order_of_the_string():
    assert tuple(d.name for d in SPACE.decisions) == EDGES
    assert SPACE.size == 5**6
    assert NasBench201Space(nodes=3).size == 5**3
    assert tuple(d.name for d in NasBench201Space(nodes=3).decisions) == EDGES[:3]


def test_a_string_names_its_edges():
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"
    assert dict(SPACE.from_string(text)) == {
        "edge_0_1": "avg_pool_3x3",
        "edge_0_2": "nor_conv_1x1",
        "edge_1_2": "skip_connect",
        "edge_0_3": "none",
        "edge_1_3": "nor_conv_3x3",
        "edge_2_3": "skip_connect",
    }
    small = NasBench201Space(nodes=3)
    assert dict(small.from_string("|none~0|+|none~0|skip_connect~1|"))["edge_1_2"] == "skip_connect"


@given(st.tuples(*[st.sampled_from(OPS)] * 6))
def test_strings_round_trip(ops):
    architecture = cell_of(ops)
    text = SPACE.to_string(architecture)
    assert SPACE.from_string(text) == architecture
    assert text.count("+") == 2
    assert [
        term.split("~")[0] for term in text.replace("+", "").strip("|").replace("||", "|").split("|")
    ] == [*ops]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~1|",
        "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|none~1|none~2|none~3|",
        "|~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_another_form_of_string_is_refused(text):
    with pytest.raises(BadInput, match=r"the string of a cell must read \|op~0\|\+"):
        SPACE.from_string(text)


def test_an_unknown_operation_is_refused_with_the_nearest():
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x4~2|"
    with pytest.raises(BadInput, match="unknown operation 'nor_conv_3x4'; did you mean 'nor_conv_3x3'"):
        SPACE.from_string(text)


def test_parameter_counts_are_those_of_the_table(nasbench201_rows):
    cifar100 = NasBench201Space(classes=100)
    for row in nasbench201_rows[::780]:
        architecture = SPACE.from_string(row["arch"])
        counted = parameters(SPACE.build(architecture)) / 1e6
        assert counted == pytest.approx(float(row["cifar10_params_M"]), abs=1e-9)
        counted = parameters(cifar100.build(architecture)) / 1e6
        assert counted == pytest.approx(float(row["cifar100_params_M"]), abs=1e-9)


def test_all_convolutions_have_a_million_and_a_half_parameters():
    # stem 464, per cell 6 (9 c^2 + 2 c), reductions, batch norm and classifier counted by hand
    cells = sum(5 * 6 * (9 * c * c + 2 * c) for c in (16, 32, 64))
    reductions = sum(9 * c * 2 * c + 4 * c + 9 * 4 * c * c + 4 * c + 2 * c * c for c in (16, 32))
    assert parameters(SPACE.build(cell_of(["nor_conv_3x3"] * 6))) == 464 + cells + reductions + 128 + 650


def test_the_network_is_stem_three_stages_and_classifier():
    kinds = [type(m) for m in NasBench201Space(cells=2).build(cell_of(["none"] * 6))]
    stage = [Cell, Cell]
    assert kinds == [
        nn.Conv2d, nn.BatchNorm2d, *stage, Reduction, *stage, Reduction, *stage,
        nn.BatchNorm2d, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Linear,
    ]  # fmt: skip


def symbolic(graph):
    """The sorted multiset of terms a graph computes: an independent reference for functional keys."""
    values = []
    for op, inputs in graph:
        read = [values[j] for j in inputs]
        if op == "input":
            values.append(("x",))
        elif op == "zero":
            values.append(())
        elif op in ("identity", "sum"):
            values.append(tuple(sorted(itertools.chain(*read), key=repr)))
        else:
            values.append(((op, *read),) if read[0] else ())
    return values[-1]


def test_the_graphs_tell_4930_functions_apart():
    assert len({symbolic(SPACE.graph(a)) for a in SPACE.enumerate()}) == 4930


def run(cell, x):
    with torch.no_grad():
        return cell.eval()(x)


def evaluate(graph, cell, x):
    """What the graph says, with the cell's own operations."""
    modules = iter([dict(cell.edges.items()).get(name) for name in EDGES])
    values = []
    for op, inputs in graph:
        if op == "input":
            values.append(x)
        elif op == "sum":
            values.append(sum(values[j] for j in inputs))
        else:
            module = next(modules)
            values.append(torch.zeros_like(x) if op == "zero" else module(values[inputs[0]]))
    return values[-1]


def test_the_graph_is_what_the_cell_computes():
    x = torch.randn(2, 3, 6, 6)
    for i in range(40):
        architecture = SPACE.sample(stream(0, i))
        ops = {(int(k[5]), int(k[7])): op for k, op in architecture.items()}
        cell = fixed(ops, 3)
        graph = SPACE.graph(architecture).checked()
        with torch.no_grad():
            torch.testing.assert_close(run(cell, x), evaluate(graph, cell.eval(), x))


def test_what_reads_nothing_gives_nothing_even_with_a_learned_bias():
    dead = fixed({**NONE, (0, 3): "skip_connect", (1, 3): "nor_conv_3x3"}, 2)
    torch.nn.init.ones_(dead.edges["edge_1_3"][2].bias)
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(run(dead, x), x)
    assert torch.equal(run(fixed(NONE, 2), x), torch.zeros_like(x))


def test_pooling_leaves_the_border_out_of_the_mean():
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(run(fixed({**NONE, (0, 3): "avg_pool_3x3"}, 1), ones), ones)


def test_the_small_cell_has_the_graph_of_its_three_nodes():
    small = NasBench201Space(nodes=3)
    architecture = small.from_string("|nor_conv_1x1~0|+|skip_connect~0|none~1|")
    assert small.graph(architecture) == (
        ("input", ()),
        ("nor_conv_1x1", (0,)),
        ("identity", (0,)),
        ("zero", (1,)),
        ("sum", (2, 3)),
    )


def test_the_graph_becomes_a_networkx_dag():
    graph = SPACE.graph(cell_of(["none", "skip_connect", *["nor_conv_3x3"] * 3, "avg_pool_3x3"]))
    drawn = graph.to_networkx()
    assert networkx.is_directed_acyclic_graph(drawn)
    assert [drawn.nodes[i]["op"] for i in drawn] == [op for op, _ in graph]
    assert [op for op, _ in graph] == [
        "input", "zero", "identity", "nor_conv_3x3", "sum",
        "nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "sum",
    ]  # fmt: skip
    assert sorted(drawn.in_edges(8)) == [(5, 8), (6, 8), (7, 8)]
    assert list(drawn.in_edges(6)) == [(1, 6)]
    assert list(drawn.in_edges(7)) == [(4, 7)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nodes": 5}, r"nodes must be a whole number in \[3, 4\], got 5"),
        ({"cells": 0}, r"cells must be a whole number in \[1, 100\], got 0"),
        ({"channels": True}, "channels must be a whole number"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        NasBench201Space(**settings)
