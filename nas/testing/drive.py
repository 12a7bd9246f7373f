"""The shortest loop that runs a strategy as a study does, for checks and tests."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from nas.proposal import Outcome, Proposal, Trial
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.strategy import Strategy

Evaluate: TypeAlias = "Callable[[Proposal], Outcome]"


def drive(
    strategy: Strategy,
    evaluate: Evaluate,
    trials: int,
    *,
    seed: int = 0,
    batch: int = 4,
    told: Sequence[Trial] = (),
) -> list[Trial]:
    """Ask, evaluate and tell until there are so many trials or the strategy has finished.

    The last batch is never cut short, so that a run of 32 trials is the beginning of one of 64.

    Args:
        strategy: a fresh one.
        evaluate: answers one proposal.
        trials: least number of trials in the end, those of ``told`` among them.
        seed: of the streams that asking and telling draw from.
        batch: proposals per asking, which are told together; whole groups, and at least one.
        told: trials to tell first, in their batches, as a resumed study does.

    Returns:
        All trials in order, those of ``told`` first.
    """
    strategy.tell((), stream(seed, "tell", -1))
    done: list[Trial] = []
    for number, group in groupby(told, key=lambda trial: trial.batch):
        again = list(group)
        strategy.tell(again, stream(seed, "tell", number))
        done += again
    return proceed(strategy, evaluate, trials, done, seed=seed, batch=batch)


def proceed(
    strategy: Strategy,
    evaluate: Evaluate,
    trials: int,
    done: Sequence[Trial],
    *,
    seed: int = 0,
    batch: int = 4,
) -> list[Trial]:
    """The same from where a strategy stands that knows the trials in ``done``."""
    all_trials = list(done)
    while len(all_trials) < trials:
        k = len(all_trials)
        whole = strategy.group * max(1, batch // strategy.group)
        proposals = strategy.ask(whole, stream(seed, "ask", k))
        if not proposals:
            break
        fresh = [
            Trial(k + i, p, evaluate(p), batch=k, position=i, size=len(proposals))
            for i, p in enumerate(proposals)
        ]
        strategy.tell(fresh, stream(seed, "tell", k))
        all_trials += fresh
    return all_trials
