"""Runs are compared in one box, by seed, and only where they can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_runs import search

from nas.errors import BadInput
from nas.front import hypervolume
from nas.history import MemoryHistory
from nas.objective import minimised
from nas.report.compare import compare
from nas.result import Result


def test_hypervolumes_refer_to_one_box(runs):
    found = compare(runs)
    points = [minimised([m.values for m in r.front().candidates], r.parts.objectives) for r in runs]
    everything = np.vstack(points)
    low, span = everything.min(axis=0), np.ptp(everything, axis=0)
    for row, own in zip(found.rows, points, strict=True):
        expected = hypervolume((own - low) / (1.1 * span))
        assert row.figures["hypervolume"] == pytest.approx(expected)
    assert len({row.figures["hypervolume"] for row in found.rows}) > 1


def test_runs_of_one_setting_are_a_group_with_a_spread(runs):
    found = compare(runs)
    (group,) = found.groups
    assert list(group.runs) == ["seed0", "seed1", "seed2"]
    values = [row.figures["hypervolume"] for row in found.rows[:3]]
    assert group.mean["hypervolume"] == pytest.approx(np.mean(values))
    assert group.spread["hypervolume"] == pytest.approx(np.std(values, ddof=1))
    assert compare(runs[2:]).groups == []
    assert [row.seed for row in found.rows] == [0, 1, 2, 0]


def test_one_run_alone_has_its_own_hypervolume(runs):
    (row,) = compare(runs[:1]).rows
    assert row.figures["hypervolume"] == pytest.approx(runs[0].front().hypervolume())


def test_the_hour_between_two_sessions_is_no_wall_time_of_the_search(runs):
    first, history = runs[0], MemoryHistory()
    half = len(first.history.trials) // 2
    later = [replace(t, started=t.started + 3600, ended=t.ended + 3600) for t in first.history.trials[half:]]
    history.append([*first.history.trials[:half], *later])
    (row,) = compare([Result(first.parts, history, first.folder)]).rows
    assert 0 < row.figures["wall_seconds"] < 3600


def test_other_objectives_are_refused_by_name(runs, tmp_path):
    other = search(tmp_path / "other", 0, ["objectives=max score, min cost < 20", "budget.trials=3"])
    with pytest.raises(BadInput, match=r"objectives of .*other must be those of .*seed0 \(max score >= 0.52"):
        compare([runs[0], other])


def test_other_data_are_told(runs, tmp_path):
    other = search(tmp_path / "other", 0, ["task.limit=50", "budget.trials=3"])
    differences = compare([runs[0], other]).differences
    assert "data of other differs from that of seed0" in differences
    assert compare(runs).differences == []
