"""Toy spaces, problems with known answers, and random spaces for properties."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from nas import Categorical, Integer, Nested, OneOf, Real, Repeat, When
from nas.evaluator import FunctionEvaluator, Known
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.registry import create
from nas.testing.problems import (
    SPACES,
    Shifted,
    ToySpace,
    conditional_space,
    mixed_space,
    plain_space,
    small_space,
)

__all__ = [
    "SPACES",
    "Shifted",
    "ToySpace",
    "conditional_space",
    "failed",
    "mixed_space",
    "plain_space",
    "small_space",
    "spaces",
    "trial",
]


OF_A_POOL = {name: {"metrics": ["near", "cost"]} for name in ("ranking", "robot", "robust_ranking")}
"""Strategies that ask for metrics of a pool, with metrics of the known problems."""


OF_PATHS = {
    "fair": {"epochs": 10, "paths": 4},
    "pada": {"epochs": 10},
    "progressive": {"epochs": 10},
    "sandwich": {"epochs": 10},
    "shift": {"epochs": 10, "warm_up": 0.5, "every": 10, "bins": 3, "samples": 16, "iterations": 2},
    "uniform": {"epochs": 10},
}
"""Path samplers, with settings for a schedule of 100 steps."""


@cache
def ten_batches():
    """80 training samples in ten batches."""
    return create("task", {"name": "digits", "limit": 100, "batch_size": 8})


def counted(space):
    """Cheap metrics of a space without modules: ``macs`` grows with each number and each active decision."""

    def macs(architecture):
        numbers = [v for v in architecture.values() if isinstance(v, int | float)]
        return 10.0 * len(architecture) + sum(map(float, numbers))

    return Known(FunctionEvaluator(macs, "macs", space=space, cheap=("macs",)), 0)


def trial(number, candidate, role="search", metrics=None, **values):
    """A trial that measured these values."""
    asked = tuple(values) if metrics is None else metrics
    return Trial(number, Proposal(candidate, asked), Measurement(values), role=role, batch=number)


def failed(number, candidate, metrics=("loss",), kind="error"):
    """A trial that measured nothing."""
    return Trial(number, Proposal(candidate, metrics), Failure(kind, "as planned"), batch=number)


@st.composite
def spaces(draw, reals=True):
    """Small spaces with conditions and nested composites; without reals at most 2,000 choices to look at."""
    space = ToySpace(draw(_declared(depth=1, reals=reals)))
    product = 1.0
    for leaf in space.leaves:
        product *= leaf.size
    if not reals and product > 2000:
        return ToySpace(space.decisions[:1]) if product > 1e9 else _first_part(space)
    return space


def _first_part(space):
    """As many leading decisions as stay below 2,000 choices; conditions only look back."""
    kept, product = [], 1.0
    for leaf in space.leaves:
        product *= leaf.size
        if product > 2000:
            break
        kept.append(leaf)
    return ToySpace(kept)


@st.composite
def _declared(draw, depth, reals):
    declared, plain = [], []
    for i in range(draw(st.integers(1, 3))):
        kinds = ["categorical", "integer"] + (["real"] if reals else [])
        kinds += ["repeat", "one_of", "nested"] if depth else []
        kind = draw(st.sampled_from(kinds))
        item = draw(_item(f"{kind[0]}{i}", kind, plain, depth, reals))
        declared.append(item)
        if kind in ("categorical", "integer"):
            plain.append(item)
    return declared


@st.composite
def _item(draw, name, kind, earlier, depth, reals):
    inner = _declared(depth=depth - 1, reals=reals)
    if kind == "repeat":
        low = draw(st.integers(0, 1))
        return Repeat(name, Integer("count", low, low + draw(st.integers(0, 2))), draw(inner))
    if kind == "one_of":
        return OneOf(name, {label: draw(inner) for label in ("a", "b")[: draw(st.integers(1, 2))]})
    if kind == "nested":
        return Nested(name, ToySpace(draw(inner)))
    when = draw(_condition(earlier))
    if kind == "categorical":
        n = draw(st.integers(1, 3))
        return Categorical(
            name, (("x", 0, None)[:n] if draw(st.booleans()) else (True, 2.5, "y")[:n]), when=when
        )
    if kind == "integer":
        low = draw(st.integers(1, 4))
        return Integer(name, low, low + draw(st.integers(0, 2)), draw(st.booleans()), when=when)
    low = draw(st.floats(1e-6, 10))
    return Real(name, low, low + draw(st.sampled_from([0.0, 1e-3, 1.0, 1e4])), draw(st.booleans()), when=when)


@st.composite
def _condition(draw, earlier):
    if not earlier or draw(st.booleans()):
        return ()
    parent = draw(st.sampled_from(earlier))
    return When(parent.name, tuple(draw(st.lists(st.sampled_from(parent.values), min_size=1, unique=True))))
