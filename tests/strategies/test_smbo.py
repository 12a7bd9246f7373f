"""Model-based optimisation: features, the schedule of fits, what the model is used for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from toys import Shifted, conditional_space, mixed_space, plain_space, small_space, trial

from nas import BadInput, parse_objectives
from nas.encoding import Encoder
from nas.rng import stream
from nas.strategies.smbo import Features, Smbo
from nas.testing import drive

ONE = parse_objectives("min loss")


def test_features_are_the_encoding_and_one_count_for_each_active_decision():
    for space in (plain_space(), conditional_space(), mixed_space()):
        drawn = [space.sample(stream(i)) for i in range(20)]
        table = Features(space).encode(drawn)
        width = Encoder(space).width
        assert (table[:, :width] == Encoder(space).encode(drawn)).all()
        assert table[:, width:].sum(axis=1).tolist() == [len(a) for a in drawn]


def test_pairs_tell_apart_what_single_choices_cannot():
    """Exclusive or: no linear model of single choices can rank it, one of pairs can."""
    space = plain_space(2, 2)
    strategy = Smbo(space, ONE, epsilon=0.0)
    every = list(space.enumerate())
    width = Encoder(space).width
    table = Features(space).encode(every)
    target = [float(a["d0"] != a["d1"]) for a in every]
    assert np.linalg.matrix_rank(table[:, :width]) < np.linalg.matrix_rank(
        np.column_stack([table[:, :width], target])
    )
    assert np.linalg.matrix_rank(table) == np.linalg.matrix_rank(np.column_stack([table, target]))
    assert strategy.ask(1, stream(0))


def test_hashed_columns_are_equal_in_every_process():
    code = (
        "from nas.testing.problems import plain_space; from nas.rng import stream;"
        "from nas.strategies.smbo import Features; s = plain_space();"
        "print(Features(s).encode([s.sample(stream(0))])[0].nonzero()[0].tolist())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert found != {""}


def test_the_model_finds_an_additive_optimum_long_before_chance_does():
    space = plain_space(8, 5)
    for seed in range(3):
        problem = Shifted(space, seed)
        trials = drive(Smbo(space, parse_objectives("min near")), problem.evaluate, 120, seed=seed, batch=4)
        assert min(t.values["near"] for t in trials) == 0, "one in 390,625"


def test_without_a_fit_and_with_epsilon_one_proposals_are_random():
    space = plain_space(8, 5)
    problem = Shifted(space, 0)
    for settings in ({"initial": 500}, {"epsilon": 1.0}):
        trials = drive(Smbo(space, ONE, **settings), problem.evaluate, 120, batch=4)
        losses = [t.values["loss"] for t in trials]
        assert np.mean(losses[60:]) == pytest.approx(np.mean(losses[:60]), abs=1.0)


def test_fits_follow_the_schedule(monkeypatch):
    fits = []
    fit = Smbo._fit
    monkeypatch.setattr(Smbo, "_fit", lambda self: (fits.append(len(self._told)), fit(self)))
    space = plain_space()
    drive(Smbo(space, ONE, refit=10), Shifted(space, 0).evaluate, 48, batch=4)
    assert fits == [12, 20, 32, 40]


def test_what_was_told_or_is_pending_is_not_proposed():
    space = plain_space(6, 3)
    strategy = Smbo(space, ONE)
    trials = drive(strategy, Shifted(space, 0).evaluate, 100, batch=4)
    assert len({t.proposal.candidate for t in trials}) == 100
    pending = strategy.ask(8, stream(1))
    again = strategy.ask(8, stream(1), pending)
    assert not {p.candidate for p in again} & {p.candidate for p in pending}


def test_failures_are_avoided():
    space = plain_space(3, 5)
    strategy = Smbo(space, ONE, epsilon=0.0)
    drawn = [space.sample(stream(i)) for i in range(40)]
    told = [
        trial(i, a, metrics=("loss",), **({} if a["d1"] == 0 else {"loss": 1.0})) for i, a in enumerate(drawn)
    ]
    strategy.tell(told, stream(0))
    assert all(p.candidate["d1"] != 0 for p in strategy.ask(10, stream(1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": 1}, "initial must be at least 2, got 1"),
        ({"candidates": 1}, "candidates must be at least 2, got 1"),
        ({"refit": 0}, "refit must be at least 1, got 0"),
        ({"epsilon": 1.5}, r"epsilon must lie in \[0, 1\], got 1.5"),
        ({"penalty": 0.0}, "penalty must be above 0, got 0.0"),
    ],
)
def test_wrong_settings_are_refused_in_words(settings, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        Smbo(small_space(), ONE, **settings)
