"""The space of DARTS: genotypes, their sizes, and how architectures are drawn and varied."""

from __future__ import annotations

import collections

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import Mixture
from nas.errors import BadInput
from nas.keys import create
from nas.rng import stream
from nas.spaces.darts import DartsSpace
from nas.spaces.darts_cells import NODES, ops_of
from nas.spaces.darts_operations import OPS, FactorizedReduce, operation
from nas.variation import crossover, mutate

SPACE = DartsSpace()
V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def parameters(space, genotype):
    return sum(p.numel() for p in space.build(space.from_genotype(genotype)).parameters())


def test_the_published_networks_have_the_published_sizes():
    # Liu et al. 2019, table 1: 3.3 M for the second order's cell, whose exact count is 3,349,342
    assert parameters(DartsSpace(layers=20, channels=36), V2) == 3_349_342


def test_the_first_orders_network_lacks_one_dilated_convolution():
    space = DartsSpace(layers=20, channels=36)
    channels = [36] * 6 + [72] * 6 + [144] * 6  # of the normal cells; cells 6 and 13 reduce
    dilated = sum(9 * c + c * c + 2 * c for c in channels)
    assert parameters(space, V2) - parameters(space, V1) == dilated


def test_there_are_as_many_choices_as_the_paper_counts():
    # sec. 3.1: 1 * 3 * 6 * 10 ways to read; on each of 8 edges 7 operations, and none, which is infeasible
    assert SPACE.size == (180 * 8**8) ** 2


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_genotypes_come_back_from_their_text(seed):
    architecture = SPACE.sample(stream(seed))
    text = SPACE.to_genotype(architecture)
    assert SPACE.from_genotype(text) == architecture
    assert text.count("range(2, 6)") == 2
    assert "none" not in text


def test_the_order_of_a_nodes_terms_does_not_matter():
    assert SPACE.from_genotype(V2) == SPACE.from_genotype(
        V2.replace("('skip_connect', 0), ('dil_conv_3x3', 2)", "('dil_conv_3x3', 2), ('skip_connect', 0)")
    )
    assert "('skip_connect', 0), ('dil_conv_3x3', 2)]" in SPACE.to_genotype(SPACE.from_genotype(V2))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', 2), ('skip_connect', 1)]", "normal must list two"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "node 5 of normal must read two different earlier"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "node 5 of normal must read two different earlier"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "normal must list two"),
        ("'dil_conv_3x3'", "'dil_conv_3x4'", "unknown operation 'dil_conv_3x4'; did you mean 'dil_conv_3x3'"),
        ("'dil_conv_3x3'", "'none'", "unknown operation 'none'"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]", "normal_concat must be range"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=range(10**12)", "must read Genotype"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=range(1000000000000)", "normal_concat must be range"),
        ("normal_concat=[2, 3, 4, 5], ", "", "must read Genotype"),
        ("'dil_conv_3x3'", "__import__('os').name", "must read Genotype"),
        ("Genotype", "dict", "must read Genotype"),
        (")]", ")", "must read Genotype"),
    ],
)
def test_other_texts_are_refused(old, new, words):
    with pytest.raises(BadInput, match=words):
        SPACE.from_genotype(V2.replace(old, new, 1))


@given(text=st.text(alphabet="Genotype(normal=[]'0123), \n*%.{}\0", max_size=60))
def test_no_text_breaks_the_reading(text):
    with pytest.raises(BadInput):
        SPACE.from_genotype(text)


def test_samples_are_spread_evenly():
    n, rng = 3000, stream(0)
    samples = [SPACE.sample(rng) for _ in range(n // 2)] + [SPACE.redrawn(rng) for _ in range(n // 2)]
    assert all(SPACE.feasible(a) for a in samples)
    pairs = collections.Counter(a["reduce.inputs_5"] for a in samples)
    ops = collections.Counter(op for a in samples for op in ops_of("normal", a).values())
    assert len(pairs) == 10
    assert all(abs(count - n / 10) < 5 * (n / 10) ** 0.5 for count in pairs.values())
    assert set(ops) == set(OPS[1:])
    assert all(abs(count - 8 * n / 7) < 5 * (8 * n / 7) ** 0.5 for count in ops.values())


def test_variation_reaches_other_inputs_and_stays_among_genotypes():
    rng = stream(1)
    a, read = SPACE.sample(rng), set()
    for _ in range(300):
        b = mutate(SPACE, a, rng)
        child = crossover(SPACE, a, b, rng)
        assert SPACE.feasible(b)
        assert SPACE.feasible(child)
        assert all(len([1 for _, end in ops_of("normal", b) if end == node]) == 2 for node in NODES)
        read.add(b["normal.inputs_5"])
        a = b
    assert len(read) > 6


def test_what_is_infeasible_is_repaired_where_it_is():
    a = SPACE.sample(stream(0))
    broken = SPACE.architecture({**a, "normal.edge_0_2": "none"})
    assert not SPACE.feasible(broken)
    repaired = SPACE.repaired(broken, stream(1))
    assert SPACE.feasible(repaired)
    assert {k for k in a if repaired[k] != broken[k]} == {"normal.edge_0_2"}


def test_the_derived_architecture_reads_the_strongest_edges():
    weights = {leaf.name: [0.0] * len(leaf.options) for leaf in SPACE.leaves}
    target = SPACE.from_genotype(V2)
    for kind in ("normal", "reduce"):
        for node in NODES:
            for j in range(node):
                edge = [0.9, *[0.01 * j] * 7]  # none weighs most, and does not count
                op = ops_of(kind, target).get((j, node))
                if op is not None:
                    edge[OPS.index(op)] = 0.3 + 0.01 * j
                weights[f"{kind}.edge_{j}_{node}"] = edge
    assert SPACE.derived(Mixture({**weights, **SPACE.all_edges()})) == target
    one_pair = {**SPACE.all_edges(), "normal.inputs_5": [0.0] * 9 + [1.0]}
    derived = SPACE.derived(Mixture({**weights, **one_pair}))
    assert derived["normal.inputs_5"] == "3,4"
    assert {k for k in derived if derived[k] != target.get(k)} <= {
        "normal.inputs_5", "normal.edge_3_5", "normal.edge_4_5"
    }  # fmt: skip


def test_with_all_edges_a_node_is_the_sum_of_its_mixed_edges():
    space = DartsSpace(layers=3, channels=2, input_shape=(3, 8, 8))
    supernet = space.supernet().eval()
    cell = supernet.module.cells[0]
    rng = stream(2)
    weights = {leaf.name: torch.tensor(rng.random(len(leaf.options))).float() for leaf in space.leaves}
    weights |= {k: torch.tensor(w).float() for k, w in space.all_edges().items()}
    before, last = torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8)
    cell.followed.relaxed = weights
    with torch.no_grad():
        out = cell(before, last)
        values = [cell.inputs[0](before), cell.inputs[1](last)]
        for node in NODES:
            total = torch.zeros(2, 2, 8, 8)
            for j in range(node):
                options = cell.edges[f"edge_{j}_{node}"].options
                alphas = weights[f"normal.edge_{j}_{node}"]
                total = total + sum(w * options[op](values[j]) for w, op in zip(alphas, OPS, strict=True))
            values.append(total)
    torch.testing.assert_close(out, torch.cat(values[2:], 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("op", OPS)
def test_operations_round_sizes_up(op, size, stride):
    out = operation(op, 4, stride)(torch.randn(2, 4, size, size))
    assert out.shape == (2, 4, -(-size // stride), -(-size // stride))
    assert (op == "none") == (not out.any())


def test_factorized_reduction_reads_pixels_one_step_apart():
    reduction = FactorizedReduce(1, 2).eval()
    torch.nn.init.ones_(reduction.even.weight)
    torch.nn.init.ones_(reduction.odd.weight)
    x = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    out = reduction(x) * (1 + reduction.norm.eps) ** 0.5
    assert out.round().tolist() == [[[[1, 3], [9, 11]], [[6, 8], [14, 16]]]]


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 32, 32)])
def test_networks_learn(shape):
    space = DartsSpace(layers=4, channels=3, input_shape=shape, classes=5)
    model = space.build(space.sample(stream(0)))
    out = model(torch.randn(2, *shape))
    assert out.shape == (2, 5)
    out.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_genotypes_that_compute_the_same_share_their_key():
    key = create("functional", SPACE)
    a = SPACE.from_genotype(V2)
    keys = {key(mutate(SPACE, a, stream(i))) for i in range(40)}
    assert len(keys) == len({mutate(SPACE, a, stream(i)) for i in range(40)})
    # nodes 2 and 3 are both the sum of the same skips, so it does not matter which of them node 4 reads
    skips = V2.replace("sep_conv_3x3', 0", "skip_connect', 0").replace("sep_conv_3x3', 1", "skip_connect', 1")
    reading = [
        skips.replace(
            "('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil", f"{other}, ('dil"
        )
        for other in (
            "('sep_conv_3x3', 2), ('skip_connect', 0), ('skip_connect', 0)",
            "('sep_conv_3x3', 3), ('skip_connect', 0), ('skip_connect', 0)",
        )
    ]
    same = [SPACE.from_genotype(text) for text in reading]
    assert same[0] != same[1]
    assert key(same[0]) == key(same[1])
    assert key(same[0]) != key(a)


def test_a_skip_that_halves_the_image_is_no_identity():
    graph = SPACE.graph(SPACE.from_genotype(V2))
    ops = [op for op, _ in graph]
    assert ops.count("identity") == 2 + 3  # two in the normal cell; those of the reduction cell read node 2
    changed = SPACE.architecture({**SPACE.from_genotype(V2), "reduce.edge_0_2": "skip_connect"})
    assert [op for op, _ in SPACE.graph(changed)].count("skip_connect_stride_2") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": 2}, r"layers must be a whole number in \[3, 100\], got 2"),
        ({"channels": 1}, "channels must be a whole number"),
        ({"input_shape": [3, 8]}, "input_shape must be"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        DartsSpace(**settings)
