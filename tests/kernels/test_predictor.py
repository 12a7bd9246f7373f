"""Models of a made-up machine whose law is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from nas.errors import BadInput
from nas.kernels.composition import Composition
from nas.kernels.drift import drift_given
from nas.kernels.op import Op
from nas.kernels.op_table import OpTable, header_of
from nas.kernels.op_transfer import plan, transfer
from nas.kernels.predictor import UNKNOWN_FACTOR, OpModels, fit, fit_line, fit_op, held
from nas.kernels.roofline import Rates, roofline_ms

FAST, SLOW = Rates(1e13, 1e12, 80, 4e6), Rates(2e12, 2e11, 20, 2e6)


def linear(rows, ins, outs):
    flops, moved = 2.0 * rows * ins * outs, (4.0 * rows * ins, 4.0 * ins * outs, 4.0 * rows * outs)
    return Op("linear", "linear", (rows, ins, outs), "float32", flops, *moved)


def relu(elements, name="relu"):
    return Op("pointwise", name, (elements, 1), "float32", elements, 4.0 * elements, 0.0, 4.0 * elements)


def law(ops, rates):
    """A third of the peak, less where the inner size is odd, and 10 µs for starting."""
    odd = np.array([op.shape[-1] % 2 and op.family == "linear" for op in ops])
    return 0.01 + roofline_ms(ops, rates) * np.where(odd, 6.0, 3.0)


def made(rates, n=400, seed=0, drift=0.0, noise=0.02, device="made up"):
    rng = np.random.default_rng(seed)
    ops = [linear(*np.exp(rng.uniform(2, 8, size=3)).astype(int).tolist()) for _ in range(n)]
    ops += [relu(int(np.exp(rng.uniform(5, 16)))) for _ in range(n)]
    position = np.tile(np.arange(n) / n, 2)
    ms = law(ops, rates) * np.exp(noise * rng.normal(size=2 * n)) + drift * position
    return OpTable(device, "float32", "eager", "warm", rates, tuple(ops), ms, ms * 0.9, ms * 1.1, position)


@pytest.fixture(scope="module")
def models():
    return fit(made(FAST))


def mape(predicted, truth):
    return float(np.abs(predicted / truth - 1).mean())


def test_new_operations_are_predicted_within_the_stated_interval(models):
    new = made(FAST, n=150, seed=1)
    times = models.predict(new.ops, level=0.9)
    errors = np.abs(np.log(times.ms / new.median_ms))
    assert mape(times.ms, new.median_ms) < 0.1
    assert 0.8 < (errors <= np.log(times.factor)).mean() < 0.99
    assert mape(roofline_ms(new.ops, FAST), new.median_ms) > 0.5


def test_held_out_errors_are_noted_and_near_the_truth(models):
    errors = models.notes["held_out_mape"]
    assert set(errors) == {"linear/linear", "pointwise/relu"}
    assert all(0.01 < e < 0.2 for e in errors.values())


def test_outside_what_was_seen_the_line_takes_over_and_the_interval_widens(models):
    huge = linear(10**5, 10**5, 10**5)
    times = models.predict([linear(200, 200, 200), huge])
    assert times.backed[0] == 1.0
    assert times.backed[1] < 0.01
    assert times.factor[1] == pytest.approx(UNKNOWN_FACTOR, rel=0.02)
    a, c = models.models["linear", "linear"].line
    assert times.ms[1] == pytest.approx(a + c * roofline_ms([huge], FAST)[0], rel=0.05)


def test_alike_operations_share_a_model_and_unknown_ones_have_the_roofline(models):
    silu, twice = relu(4096, "silu"), Op("pointwise", "mul", (4096, 2), "float32", 4096, 32768, 0, 16384)
    times = models.predict([relu(4096), silu, twice, Op("other", "fft", (9,), "float32", 9, 36, 0, 36)])
    assert times.ms[1] == times.ms[0]
    assert times.backed.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert times.factor[2] == times.factor[3] == UNKNOWN_FACTOR


def test_models_are_kept_as_arrays(models, tmp_path):
    models.save(tmp_path / "m.npz")
    again = OpModels.load(tmp_path / "m.npz")
    ops = made(FAST, n=30, seed=2).ops
    np.testing.assert_allclose(again.predict(ops).ms, models.predict(ops).ms, rtol=1e-5)
    np.testing.assert_allclose(again.predict(ops).factor, models.predict(ops).factor, rtol=0.05)
    assert (again.device, again.rates, again.notes) == (models.device, FAST, dict(models.notes))
    header = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps({**header, "schema": 99}))
    with pytest.raises(BadInput, match="schema version must be 1, got 99"):
        OpModels.load(tmp_path / "m.npz")
    with pytest.raises(BadInput, match=r"\.npz"):
        OpModels.load(tmp_path / "none.npz")


def test_a_drifting_clock_is_seen_and_left_out():
    table = made(FAST, drift=0.2)
    linears = table.only(table.kinds()["linear", "linear"])
    model = fit_op(linears, 0)
    assert 0.14 < model.drift < 0.26
    truth = law(linears.ops, FAST)
    assert mape(model.predict(linears.ops, FAST)[0], truth) < 0.5 * mape(linears.median_ms, truth)
    steady = made(FAST)
    assert fit_op(steady.only(steady.kinds()["linear", "linear"]), 0).drift == 0.0


def test_a_line_is_found_despite_outliers():
    roof = np.linspace(0.1, 10, 100)
    ms = 0.5 + 2 * roof
    ms[::10] *= 5
    a, c = fit_line(roof, ms)
    assert (a, c) == (pytest.approx(0.5, rel=0.1), pytest.approx(2.0, rel=0.05))


def test_equal_operations_stay_on_one_side():
    ops = made(FAST, n=50).ops
    out = held((*ops, *ops), 0, 0.3)
    assert (out[:100] == out[100:]).all()
    assert 0.15 < out.mean() < 0.45


def test_few_timings_carry_models_over_to_another_device():
    table = made(SLOW, n=300, seed=3, device="slow")
    table = table.only(table.kinds()["linear", "linear"])
    few = table.only(np.random.default_rng(0).choice(300, 60, replace=False))
    few = dataclasses.replace(few, median_ms=4 * few.median_ms)  # a quarter as fast as its rates say
    sources = [_linears(made(FAST, n=300, seed=s)) for s in (0, 1)]
    found, plain = transfer(sources, few, SLOW, 0), transfer(sources, None, SLOW, 0)
    rest = [op for op in table.ops if op not in few.ops]
    truth = 4 * law(rest, SLOW)
    assert mape(found.predict(rest), truth) < 0.25
    assert mape(plain.predict(rest), truth) > 0.4
    with pytest.raises(BadInput, match="at least one device"):
        transfer([], few, SLOW, 0)


def test_what_is_timed_on_a_new_device_is_spread_out():
    ops = [linear(64, 64, 64 + i) for i in range(60)] + [linear(4096, 64, 64 + 99 * i) for i in range(6)]
    rows = plan([_linears(made(FAST, n=60))], ops, SLOW, 8, 0)
    assert len(set(rows.tolist())) == 8
    assert (rows >= 60).sum() >= 3  # a tenth of the operations, but most of their variety


def test_the_drift_of_few_timings_is_found_whatever_the_scale():
    rng = np.random.default_rng(0)
    expected, position = np.exp(rng.normal(size=60)), rng.random(60)
    ms = 3 * expected * np.exp(0.05 * rng.normal(size=60)) + 0.7 * position
    assert drift_given(expected, position, ms) == pytest.approx(0.7, abs=0.2)


def _linears(table):
    some = table.only(table.kinds()["linear", "linear"])
    models = {("linear", "linear"): fit_op(some, 0)}
    return OpModels(table.device, table.dtype, table.backend, table.rates, models)


def test_tables_are_kept_and_others_refused(tmp_path):
    table, path = made(FAST, n=5), tmp_path / "ops.csv.gz"
    table.save(path)
    again = OpTable.load(path, "made up")
    assert again.ops == table.ops
    for name in ("median_ms", "p10_ms", "p90_ms", "position"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    with pytest.raises(BadInput, match="device must be other, got 'made up'"):
        OpTable.load(path, "other")
    header = json.loads(header_of(path).read_text())
    header_of(path).write_text(json.dumps({**header, "rows": 99}))
    with pytest.raises(BadInput, match="rows must be 99, got 10"):
        OpTable.load(path)
    header_of(path).write_text(json.dumps({**header, "schema": 0}))
    with pytest.raises(BadInput, match="schema version must be 1, got 0"):
        OpTable.load(path)


def test_bad_tables_and_too_few_rows_are_refused():
    table = made(FAST, n=5)
    with pytest.raises(BadInput, match="at least 20 operations"):
        fit(table)
    with pytest.raises(BadInput, match="be positive"):
        dataclasses.replace(table, median_ms=table.median_ms * 0)
    with pytest.raises(BadInput, match="be of float16"):
        dataclasses.replace(table, dtype="float16")


def test_composition_finds_gaps_dispatch_and_reuse():
    rng = np.random.default_rng(0)
    kernels, work = rng.integers(5, 200, size=120), np.exp(rng.normal(size=120))
    weights = np.where(rng.random(120) < 0.5, rng.uniform(0.5, 2, size=120), 0.0)
    truth = Composition(reuse=0.8, gap_ms=0.004, dispatch_ms=0.02, fixed_ms=0.1, fetch=0.8)
    ms = truth.total_ms(work, kernels, weights)
    assert (0.02 * kernels > 0.8 * work + 0.004 * kernels).mean() > 0.2  # the host is slower for some
    noisy = ms * np.exp(0.01 * rng.normal(size=120))
    found = Composition.fit(work, kernels, weights, noisy, np.full(120, 1.2))
    assert mape(found.total_ms(work, kernels, weights), ms) < 0.03
    assert found.fetch == pytest.approx(0.8, rel=0.15)
    assert found.factor(0.9, 1.2) < 1.1
    assert Composition.of_record(json.loads(json.dumps(found.record()))).factor(0.9, 1.2) == found.factor(
        0.9, 1.2
    )


def test_few_networks_scale_and_none_leave_a_wide_band():
    work, kernels = np.array([1.0, 2.0]), np.array([10, 20])
    found = Composition.fit(work, kernels, np.zeros(2), 3 * work, np.array([1.2, 1.2]))
    np.testing.assert_allclose(found.total_ms(work, kernels), 3 * work)
    assert found.factor(0.9, 1.2) == Composition().factor(0.9, 1.2) == 2.0
    with pytest.raises(BadInput, match="at least one"):
        Composition.fit(*(np.zeros(0),) * 5)
