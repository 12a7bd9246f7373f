"""The format is refused when anything is off, and lookups give the right rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import BadInput, Categorical, Integer, When
from nas.columnar import MAGIC, pack, unpack
from nas.errors import UnknownMetric
from nas.rng import stream
from nas.table import SHIPPED, Table
from nas.tables import synthetic
from nas.tables.draft import Draft, near_order
from nas.testing.problems import ToySpace


@pytest.fixture
def table():
    return Table.open("synthetic")


def drafted(rows, complete=None, **decisions):
    draft = Draft("toy", "nobody", {}, decisions, complete)
    draft.add("score", np.arange(rows, dtype=float))
    return draft


def written(draft, path):
    draft.write(path / "toy.table")
    return Table.open(path / "toy.table")


# --- the file ---------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["int8", "int16", "int32", "float32", "float64"]),
            st.lists(st.integers(0, 5), min_size=1, max_size=2),
        ),
        max_size=4,
    )
)
def test_arrays_come_back_as_they_were_packed(tmp_path_factory, shapes):
    arrays = {
        f"a{i}": np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for i, (dtype, shape) in enumerate(shapes)
    }
    path = tmp_path_factory.mktemp("pack") / "x"
    path.write_bytes(pack({"name": "x"}, arrays))
    header, found, _ = unpack(path)
    assert header["name"] == "x"
    assert list(found) == sorted(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_columns_are_mapped_and_aligned(tmp_path):
    (tmp_path / "x").write_bytes(pack({}, {"a": np.ones(3, np.int8), "b": np.ones(3)}))
    arrays = unpack(tmp_path / "x")[1]
    assert isinstance(arrays["b"], np.memmap)
    assert arrays["b"].ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        arrays["b"][0] = 2.0


def test_other_types_are_refused():
    with pytest.raises(BadInput, match="column a must be of int8"):
        pack({}, {"a": np.array([object()])})


def damaged(change):
    data = bytearray((SHIPPED / "synthetic.table").read_bytes())
    change(data)
    return bytes(data)


def flip(place):
    def change(data):
        data[place] ^= 1

    return change


def cut(data):
    del data[-64:]


def version(data):
    data[len(MAGIC)] = 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip(0), "must be a file made by 'nas data import'"),
        (version, "schema version must be 1, got 9; import it again"),
        (cut, "it is cut short; import it again"),
        (flip(-100), "the file changed; import it again"),
        (flip(20), "the file changed; import it again"),
        (lambda data: data.clear(), "must be a file made by 'nas data import'"),
        (lambda data: data.__delitem__(slice(100, None)), "the file is damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "x.table"
    path.write_bytes(damaged(change))
    with pytest.raises(BadInput, match=message):
        Table.open(path)


def test_another_checksum_is_refused(table):
    assert Table.open("synthetic", table.checksum).size == 125
    with pytest.raises(BadInput, match=r"checksum must be 00, got .*import the same data"):
        Table.open("synthetic", "00")


def test_a_missing_table_names_the_command():
    with pytest.raises(BadInput, match=r"must be a file made by 'nas data import'.*docs/tables.md"):
        Table.open("nowhere.table")


def test_the_shipped_table_is_what_its_code_makes():
    assert (SHIPPED / "synthetic.table").read_bytes() == synthetic.load().packed()


# --- drafts -----------------------------------------------------------------------------------------


def test_writing_again_changes_nothing_and_other_contents_are_refused(tmp_path):
    path = tmp_path / "toy.table"
    assert drafted(2, a=["x", "y"]).write(path)
    assert not drafted(2, a=["x", "y"]).write(path)
    with pytest.raises(BadInput, match="remove it or choose another"):
        drafted(2, a=["x", "z"]).write(path)


def test_missing_and_repeated_rows_are_refused(tmp_path):
    with pytest.raises(BadInput, match="toy: rows must be 3, got 2"):
        drafted(2, 3, a=["x", "y"]).packed()
    with pytest.raises(BadInput, match="must hold each choice once, got 'row 2 again'"):
        drafted(3, a=["x", "y", "x"]).packed()


def test_choices_come_back_with_their_types(tmp_path):
    decisions = {"op": ["a", "b", "a"], "width": [8, 16, None], "bias": [True, False, False]}
    table = written(drafted(3, 3, **decisions, lr=np.array([0.1, 0.2, 1 / 3])), tmp_path)
    assert table.choices(0) == {"op": "a", "width": 8, "bias": True, "lr": 0.1}
    assert table.choices(2) == {"op": "a", "bias": False, "lr": 0.333333333333}
    for row in (-1, 3, True, 0.5, "0"):
        with pytest.raises(BadInput, match=r"row must be a whole number in \[0, 2\]"):
            table.choices(row)


def test_a_samples_rows_are_ordered_with_their_values(tmp_path):
    table = written(drafted(4, x=[3, 1, 2, 0]), tmp_path)
    assert [table.choices(i)["x"] for i in range(4)] == [0, 1, 2, 3]
    assert table.values("score").tolist() == [3.0, 1.0, 2.0, 0.0]


def test_near_order_brings_alike_rows_together():
    x = stream(0, "test").random((500, 3))
    order = near_order(x)
    assert sorted(order) == list(range(500))
    steps = np.abs(np.diff(x[order], axis=0)).sum(axis=1).mean()
    assert steps < 0.5 * np.abs(np.diff(x, axis=0)).sum(axis=1).mean()
    assert near_order(np.ones((5, 2))).tolist() == [0, 1, 2, 3, 4]


# --- lookups ----------------------------------------------------------------------------------------


def spaced(table):
    return ToySpace([Categorical(c.name, c.options) for c in table.columns])


def test_both_lookups_find_every_row(table):
    space = spaced(table)
    architectures = [space.architecture(table.choices(i)) for i in range(table.size)]
    np.testing.assert_array_equal(table.rows(architectures), np.arange(table.size))
    np.testing.assert_array_equal(table.find(table.codes), np.arange(table.size))
    assert table.rows([]).shape == (0,)
    assert table.find(table.codes[:0]).shape == (0,)


def wide(rows, decisions=45):
    """So many decisions that their number does not fit into 64 bits."""
    codes = stream(0, "wide").integers(0, 3, size=(rows, decisions))
    return drafted(rows, **{f"d{i}": codes[:, i].tolist() for i in range(decisions)})


@pytest.mark.parametrize("decisions", [20, 45])
def test_rows_of_a_sample_are_found_and_others_are_not(tmp_path, decisions):
    table = written(wide(300, decisions), tmp_path)
    rng = stream(1, "wide")
    picked = rng.integers(300, size=1000)
    codes = table.codes[picked]
    np.testing.assert_array_equal(table.find(codes), picked)
    other = rng.integers(0, 3, size=(1000, decisions))
    assert (table.find(other) == -1).all()
    space = spaced(table)
    assert table.rows([space.architecture(table.choices(7)), space.sample(rng)]).tolist() == [7, -1]


def test_inactive_decisions_are_part_of_the_lookup(tmp_path):
    table = written(drafted(3, 3, op=["a", "b", "b"], size=[None, 1, 2]), tmp_path)
    np.testing.assert_array_equal(table.find(np.array([[0, -1], [1, 0], [1, 1], [1, -1]])), [0, 1, 2, -1])
    space = ToySpace([Categorical("op", ("a", "b")), Integer("size", 1, 2, when=When("op", ("b",)))])
    found = table.rows([space.architecture({"op": "b", "size": 2}), space.architecture({"op": "a"})])
    assert found.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 2), int), r"codes must have shape \(n, 3\), got \(2, 2\)"),
        (np.array([[0, 5, 0]]), r"codes of edge_0_2 must lie in \[0, 4\], got 5"),
        (np.array([[0, 0, -1]]), r"codes of edge_1_2 must lie in \[0, 4\], got -1"),
    ],
)
def test_codes_out_of_range_are_refused(table, codes, message):
    with pytest.raises(BadInput, match=message):
        table.find(codes)


def test_architectures_of_another_space_are_refused(table):
    space = ToySpace([Categorical("edge_0_1", ("none",))])
    with pytest.raises(BadInput, match="must choose edge_0_2"):
        table.rows([space.architecture({"edge_0_1": "none"})])


def test_real_decisions_have_no_codes(tmp_path):
    table = written(drafted(2, x=np.array([0.25, 0.5])), tmp_path)
    with pytest.raises(BadInput, match="use rows"):
        table.find(np.zeros((1, 1)))


# --- values -----------------------------------------------------------------------------------------


def test_curves_are_read_at_the_last_point_within_the_fidelity(table):
    points = table.metrics["valid_accuracy"].fidelities
    assert len(points) == 12
    stored = [table.values("valid_accuracy", f) for f in points]
    np.testing.assert_array_equal(table.values("valid_accuracy", 0.01), stored[0])
    np.testing.assert_array_equal(table.values("valid_accuracy", 0.49), stored[4])
    np.testing.assert_array_equal(table.values("valid_accuracy", 0.5), stored[5])
    np.testing.assert_array_equal(table.values("valid_accuracy"), stored[11])
    assert not np.array_equal(stored[0], stored[11])
    np.testing.assert_array_equal(table.values("params", 0.01), table.values("params"))


def test_a_cost_counts_once_and_follows_the_fidelity_of_curves(table):
    rows = np.array([3, 60])
    whole = table.values("train_seconds")[rows]
    np.testing.assert_allclose(table.seconds(["valid_accuracy", "test_accuracy"], rows), whole)
    np.testing.assert_allclose(table.seconds(["valid_accuracy"], rows, 0.25), whole / 4)
    np.testing.assert_allclose(table.seconds(["test_accuracy"], rows, 0.25), whole)
    np.testing.assert_allclose(table.seconds(["params", "gpu_latency_ms"], rows), 0)


def test_unknown_metrics_are_named(table):
    with pytest.raises(UnknownMetric, match="did you mean 'test_accuracy'"):
        table.values("test_accurac")


def test_missing_values_are_counted(table):
    assert {m: table.missing(m) for m in table.metrics if table.missing(m)} == {"tpu_latency_ms": 25}
    json.dumps(table.source)  # plain values
