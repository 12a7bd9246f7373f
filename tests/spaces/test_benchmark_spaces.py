"""The spaces of tabular benchmarks: their strings, rules, graphs and published sizes."""

from __future__ import annotations

import pytest
import torch

from nas import BadInput, keys
from nas.rng import stream
from nas.spaces.hpo_tabular import BENCHMARKS, HpoTabularSpace
from nas.spaces.hw_gpt_bench import HwGptBenchSpace, Layer, rotated
from nas.spaces.nasbench201 import NasBench201Space
from nas.spaces.nasbench_graph import NasBenchGraphSpace
from nas.spaces.nasbench_macro import NasBenchMacroSpace
from nas.spaces.pool import PoolSpace
from nas.spaces.table import TableSpace
from nas.spaces.transnasbench101 import TransNasBench101Macro, TransNasBench101Micro


def params(module):
    return sum(p.numel() for p in module.parameters())


def built(space, text):
    with torch.device("meta"):
        return space.build(space.from_string(text))


# Published sizes, of the benchmarks' own lists.


@pytest.mark.parametrize(
    ("text", "size"), [("02012100", 890_666), ("11111221", 2_181_386), ("00011110", 1_118_378)]
)
def test_macro_networks_have_their_published_sizes(text, size):
    assert params(built(NasBenchMacroSpace(), text)) == size


@pytest.mark.parametrize(
    ("text", "size"), [("111400", 1_001_860), ("333400", 1_014_532), ("113400", 1_006_084)]
)
def test_transnas_networks_have_their_published_sizes(text, size):
    assert params(built(TransNasBench101Macro(), text)) == size


def test_transnas_cells_have_their_published_sizes():
    space = TransNasBench101Micro()
    # The differences that each operation makes, from the input of the cell and from other nodes.
    base = params(built(space, "111111"))
    assert base == 592_260
    for text, more in [("011111", -173_824), ("110111", 0), ("112111", 857_088), ("113111", 7_672_832)]:
        assert params(built(space, text)) - base == more, text


def test_gpts_have_their_published_sizes():
    space = HwGptBenchSpace()
    heads = [12, 12, 4, 12, 12, 4, 4, 4, 8, 12]
    ratios = [2, 4, 3, 4, 2, 2, 3, 3, 2, 3]
    choices = {"embed_dim": 384, "bias": False, "layer.count": 10}
    for i, (h, r) in enumerate(zip(heads, ratios, strict=True)):
        choices |= {f"layer.{i}.heads": h, f"layer.{i}.mlp_ratio": r}
    with torch.device("meta"):
        size = params(space.build(space.architecture(choices)))
    vocabulary, width = 50_254, 384
    attention, mlp = 4 * width * 64 * sum(heads), 3 * width**2 * sum(ratios)
    assert size == 2 * vocabulary * width + attention + mlp + (4 * 10 + 2) * width


@pytest.mark.parametrize(
    ("space", "text", "canonical"),
    [
        (NasBenchMacroSpace(), "02012100", "02012100"),
        (TransNasBench101Micro(), "102333", "64-41414-1_02_333"),
        (TransNasBench101Micro(), "64-41414-3_00_123", "64-41414-3_00_123"),
        (TransNasBench101Macro(), "123400", "64-1234-basic"),
        (TransNasBench101Macro(), "64-443311-basic", "64-443311-basic"),
    ],
)
def test_strings_are_read_and_written(space, text, canonical):
    architecture = space.from_string(text)
    assert space.to_string(architecture) == canonical
    assert space.from_string(canonical) == architecture


@pytest.mark.parametrize(
    ("space", "texts"),
    [
        (NasBenchMacroSpace(), ["", "0201210", "02012103", "0201210x"]),
        (TransNasBench101Micro(), ["", "10233", "402333", "64-41414-1_02_33", "64-12345-1_02_333"]),
        (TransNasBench101Macro(), ["", "123", "1234567", "111111", "333333", "444444", "120340"]),
    ],
)
def test_unknown_strings_are_refused(space, texts):
    for text in texts:
        with pytest.raises(BadInput, match="must"):
            space.from_string(text)


def test_hashes_of_nasbench_graph():
    space = NasBenchGraphSpace()
    a = space.from_hash(81_238)
    assert dict(a) == {"link": "0123", "op_0": "gcn", "op_1": "gin", "op_2": "cheb", "op_3": "skip"}
    assert space.to_hash(a) == 81_238
    assert space.from_hash(0)["link"] == "0000"
    for number in (-1, 90_000, 9, "0", True, 1.0):
        if number == 9:
            with pytest.raises(BadInput, match="operations 0 to 8 in its last four digits"):
                space.from_hash(number)
        else:
            with pytest.raises(BadInput, match=r"hash must be a whole number in \[0, 89999\]"):
                space.from_hash(number)


def test_infeasible_are_just_those_whose_raw_input_is_passed_on():
    space = NasBenchGraphSpace()
    assert sum(1 for _ in space.enumerate()) == 53_056
    assert not space.feasible(space.from_hash(8))  # a leaf that skips
    assert space.feasible(space.from_hash(80_000 + 8880))  # the last operation follows three skips
    assert not space.feasible(space.from_hash(88_888))


def test_transnas_has_its_published_number_of_networks():
    assert sum(1 for _ in TransNasBench101Macro().enumerate()) == 3_256
    assert TransNasBench101Micro().size == 4_096


def test_functional_keys_of_cells():
    space = TransNasBench101Micro()

    functional = keys.create("functional", space)

    def key(text):
        return functional(space.from_string(text))

    assert key("0_03_000") == key("0_00_000")  # the way ends before the output
    assert key("2_00_010") == key("2_01_001") == key("2_00_200")  # one operation, copied or not
    assert key("0_00_300") != key("1_00_030")  # a skip from the input halves the image by weights
    assert key("3_00_010") != key("2_00_010")


def test_functional_keys_of_graph_networks():
    space = NasBenchGraphSpace()

    functional = keys.create("functional", space)

    def key(number):
        return functional(space.from_hash(number))

    assert key(121) == key(211)  # parallel nodes commute
    assert key(80_128) == key(80_812) != key(80_218)  # a skip in a chain may stand anywhere


# --- modules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["000000", "0_00_000", "1_11_111", "3_00_030", "0_00_300"])
@pytest.mark.parametrize("size", [8, 33])
def test_cells_run_at_any_image_size(text, size):
    space = TransNasBench101Micro(channels=4, classes=3, input_shape=(1, size, size))
    module = space.build(space.from_string(text)).eval()
    assert module(torch.rand(2, 1, size, size)).shape == (2, 3)


def test_gpts_do_not_look_ahead():
    torch.manual_seed(0)
    layer = Layer(32, heads=2, ratio=2, bias=True).eval()
    x = torch.randn(1, 6, 32)
    other = x.clone()
    other[:, 4:] += 1
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[:, :4], layer(other)[:, :4])
        assert not torch.allclose(layer(x)[:, 4:], layer(other)[:, 4:])


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(1, 8), torch.randn(1, 8)
    turned_q, turned_k = rotated(q.repeat(6, 1)), rotated(k.repeat(6, 1))
    torch.testing.assert_close(turned_q.norm(dim=1), q.norm().repeat(6))
    scores = turned_q @ turned_k.T
    torch.testing.assert_close(scores.diagonal(2), scores[0, 2].repeat(4))
    assert not torch.isclose(scores[0, 0], scores[0, 2])


@pytest.mark.parametrize(
    "space",
    [NasBenchGraphSpace(), TableSpace(), PoolSpace(), *map(HpoTabularSpace, BENCHMARKS)],
    ids=lambda space: getattr(space, "benchmark", type(space).__name__),
)
def test_spaces_without_modules_say_so(space):
    with pytest.raises(BadInput, match="must"):
        space.build(space.sample(stream(0, "build")))


def test_unknown_benchmarks_are_refused():
    with pytest.raises(BadInput, match="unknown benchmark 'xgboos'; did you mean 'xgboost'"):
        HpoTabularSpace("xgboos")


# --- spaces of tables -------------------------------------------------------------------------------


def test_a_pool_of_a_known_space_builds_and_has_graphs():
    cells = NasBench201Space(nodes=3, cells=1, channels=2, input_shape=(1, 8, 8), classes=2)
    pool = PoolSpace("synthetic", of=cells)
    a = pool.architecture({"row": 93})
    chosen = cells.architecture(pool.chosen(a))
    assert pool.build(a)(torch.rand(1, 1, 8, 8)).shape == (1, 2)
    assert pool.graph(a) == cells.graph(chosen)
    assert keys.create("functional", pool)(a) == keys.create("functional", cells)(chosen)
    assert keys.create("functional", PoolSpace())(a) == a.key
    assert PoolSpace().graph(a) is None


def test_a_tables_space_has_its_decisions():
    space = TableSpace()
    assert space.size == 125
    assert [leaf.name for leaf in space.leaves] == ["edge_0_1", "edge_0_2", "edge_1_2"]
