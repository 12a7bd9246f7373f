"""The numeric key: by graph, by module, and of any function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nas import keys
from nas.decision import Categorical
from nas.errors import BadInput
from nas.keys.numeric import Canon, canonicalise, fingerprint, key_of
from nas.registry import create
from nas.rng import stream
from nas.space import Space
from nas.spaces.join import Join
from nas.spaces.nasbench201 import NasBench201Space

CELLS = NasBench201Space()
SMALL = NasBench201Space(nodes=3, cells=1, channels=2)


@pytest.fixture(scope="module")
def digits():
    return create("task", {"name": "digits", "limit": 64})


# --- numbers ------------------------------------------------------------------------------------------------


def test_signs_exponents_and_mantissas_count():
    for other in (-1.5, 3.0, 1.75):
        assert fingerprint(np.array([1.5]), 2) != fingerprint(np.array([other]), 2)


def test_rounding_errors_do_not_count_and_round_numbers_are_no_edge():
    near = np.nextafter(1.0, 0.0)
    assert fingerprint(np.array([near]), 24) == fingerprint(np.array([1.0]), 24)
    assert fingerprint(np.array([near]), 52) != fingerprint(np.array([1.0]), 52)
    assert fingerprint(np.array([-0.0]), 52) == fingerprint(np.array([0.0]), 52)


def test_more_bits_tell_more_apart():
    a, b = np.array([1.0]), np.array([1.0 + 2.0**-20])
    assert fingerprint(a, 10) == fingerprint(b, 10)
    assert fingerprint(a, 22) != fingerprint(b, 22)


def test_shapes_count():
    assert fingerprint(np.ones((2, 3)), 24) != fingerprint(np.ones((3, 2)), 24)


# --- any function -------------------------------------------------------------------------------------------


def test_a_function_that_repeats_itself_has_a_key():
    rng = stream(0, "test")
    x = rng.standard_normal(10)
    one = key_of(lambda repeat: [np.sin(x) + x + repeat])
    assert one == key_of(lambda repeat: [x + np.sin(x) + repeat])
    assert one != key_of(lambda repeat: [x - np.sin(x) + repeat])


def test_repeats_tell_apart_what_one_input_does_not():
    def even(repeat):
        return [np.array([0.0 if repeat == 0 else 1.0])]

    def zero(repeat):
        return [np.array([0.0])]

    assert key_of(even) == key_of(zero)
    assert key_of(even, repeats=2) != key_of(zero, repeats=2)


def test_a_function_that_does_not_repeat_itself_is_refused():
    rng = stream(0, "test")
    with pytest.raises(BadInput, match="repeats itself"):
        key_of(lambda _: [rng.standard_normal(3)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error_class_of_their_own(bad):
    key = key_of(lambda _: [np.array([1.0, bad])])
    assert key == key_of(lambda _: [np.array([bad])])
    assert key.startswith(keys.ERROR)
    assert key != key_of(lambda _: [np.array([1.0])])


def test_an_exception_is_an_error_class_of_its_own():
    def broken(repeat):
        raise ZeroDivisionError

    assert key_of(broken) == "error:ZeroDivisionError"


# --- by the graph -------------------------------------------------------------------------------------------


def test_the_15625_cells_have_4540_numeric_keys():
    """As many for 24 bits as for 1: the benchmark shows all numbers of bits."""
    key, coarse = (keys.create("numeric", CELLS, mantissa_bits=bits) for bits in (24, 1))
    every = list(CELLS.enumerate())
    fine = [key(a) for a in every]
    assert len(set(fine)) == 4_540
    assert len({coarse(a) for a in every[::5]}) == len(set(fine[::5]))


def test_numeric_unites_whole_symbolic_classes():
    symbolic, numeric = keys.create("symbolic", CELLS), keys.create("numeric", CELLS)
    pairs = {(symbolic(a), numeric(a)) for a in list(CELLS.enumerate())[::7]}
    assert len(pairs) == len({s for s, _ in pairs})


def test_an_average_of_a_sum_is_the_sum_of_averages():
    """What the algebra of operators does not know, numbers show."""
    united = CELLS.from_string(
        "|nor_conv_1x1~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    )
    apart = CELLS.from_string(
        "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|avg_pool_3x3~1|none~2|"
    )
    numeric, symbolic = keys.create("numeric", CELLS), keys.create("symbolic", CELLS)
    assert numeric(united) == numeric(apart)
    assert symbolic(united) != symbolic(apart)


def test_too_many_bits_split_by_rounding_errors():
    some = list(CELLS.enumerate())[::3]
    counts = [len({key(a) for a in some}) for key in (
        keys.create("numeric", CELLS, mantissa_bits=bits) for bits in (24, 52)
    )]  # fmt: skip
    assert counts[1] > counts[0]


# --- by the module ------------------------------------------------------------------------------------------


def test_modules_of_one_function_share_a_key_and_others_do_not(digits):
    """On real networks, the numeric classes are those of the symbolic key."""
    space = NasBench201Space(digits, nodes=3, cells=1, channels=2)
    module = keys.create("numeric_module", space, digits, batch_size=4)
    symbolic = keys.create("symbolic", space)
    some = list(space.enumerate())[::3]
    made = [(symbolic(a), module(a)) for a in some]
    assert len({s for s, _ in made}) < len(made)
    assert len(set(made)) == len({s for s, _ in made})
    assert len({m for _, m in made}) > 0.9 * len(set(made))


def test_the_order_of_layers_does_not_matter():
    class Net(nn.Module):
        def __init__(self, *, reverse):
            super().__init__()
            names = ["one", "two"]
            for name in names[::-1] if reverse else names:
                self.add_module(name, nn.Linear(3, 3))

        def forward(self, x):
            return self.two(torch.relu(self.one(x)))

    outputs = []
    for reverse in (False, True):
        net = Net(reverse=reverse).double()
        canonicalise(net, Canon(0))
        outputs.append(net(torch.ones(2, 3, dtype=torch.float64)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


def test_layers_on_different_inputs_differ():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    canonicalise(net, Canon(0))
    net(torch.ones(2, 3, dtype=torch.float64))
    assert not torch.equal(net[0].weight, net[1].weight)


class Tied(Space):
    """Two linear layers, one layer twice, or two that share their weight."""

    decisions = (Categorical("kind", ("two", "twice", "tied")),)

    def build(self, architecture):
        first, second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        if architecture["kind"] == "tied":
            second.weight = first.weight
        last = first if architecture["kind"] == "twice" else second
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


def test_shared_weights_are_told_from_separate_ones(digits):
    key = keys.create("numeric", Tied(), digits)
    found = {a["kind"]: key(a) for a in Tied().enumerate()}
    assert found["two"] != found["tied"]
    assert found["two"] != found["twice"]


class Odd(Space):
    """A network that goes wrong in ways of its own."""

    decisions = (Categorical("kind", ("fine", "nan", "overflow", "raises", "random")),)

    def __init__(self, first="fine"):
        self.decisions = (
            Categorical("kind", (first, *[k for k in ("fine", "nan", "raises", "random") if k != first])),
        )

    def build(self, architecture):
        return OddModule(architecture["kind"])


class OddModule(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.head = nn.Linear(64, 2)
        self.rng = np.random.default_rng()

    def forward(self, x):
        y = self.head(x.flatten(1))
        match self.kind:
            case "nan":
                return y / 0.0 * 0.0
            case "raises":
                raise RuntimeError("no")
            case "random":
                return y + float(self.rng.random())
        return y


def test_modules_that_go_wrong_share_nothing_with_others(digits, monkeypatch):
    space = Odd()
    fine = space.architecture({"kind": "fine"})
    monkeypatch.setattr(Odd, "sample", lambda *_: fine, raising=False)
    key = keys.create("numeric", space, digits)
    found = {a["kind"]: key(a) for a in space.enumerate()}
    assert found["nan"] == "error:not finite"
    assert found["raises"] == "error:RuntimeError"
    assert found["random"] == "error:not repeatable"
    assert not found["fine"].startswith(keys.ERROR)


def test_a_space_that_does_not_repeat_itself_is_refused(digits, monkeypatch):
    space = Odd()
    random = space.architecture({"kind": "random"})
    monkeypatch.setattr(Odd, "sample", lambda *_: random, raising=False)
    with pytest.raises(BadInput, match="repeats itself"):
        keys.create("numeric", space, digits)


def test_dropout_counts_and_torchs_generator_is_left_alone(digits):
    class Dropping(Space):
        decisions = (Categorical("p", (0.0, 0.1, 0.5)),)

        def build(self, architecture):
            return nn.Sequential(nn.Flatten(), nn.Dropout(architecture["p"]), nn.Linear(64, 4))

    state = torch.random.get_rng_state()
    key = keys.create("numeric", Dropping(), digits)
    assert len({key(a) for a in Dropping().enumerate()}) == 3
    assert torch.equal(torch.random.get_rng_state(), state)


def test_settings():
    with pytest.raises(BadInput, match="task"):
        keys.create("numeric_module", SMALL)
    for name in ("mantissa_bits", "repeats"):
        with pytest.raises(BadInput, match=name):
            keys.create("numeric", SMALL, **{name: 0})
    with pytest.raises(BadInput, match="mantissa_bits"):
        keys.create("numeric", SMALL, mantissa_bits=53)


# --- joint spaces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["functional", "symbolic", "numeric"])
def test_a_joint_space_combines_its_parts(name, digits):
    hyper = create("space", "hyper", {"task": digits})
    joint = Join({"cell": SMALL, "hyper": hyper})
    key = keys.create(name, joint, digits)
    rng = stream(0, "joint")
    a, b = hyper.sample(rng), hyper.sample(rng)
    cells = {"copy": "|skip_connect~0|+|none~0|skip_connect~1|", "direct": "|none~0|+|skip_connect~0|none~1|",
             "conv": "|none~0|+|nor_conv_1x1~0|none~1|"}  # fmt: skip

    def of(cell, recipe):
        chosen = {f"cell.{n}": v for n, v in SMALL.from_string(cells[cell]).items()}
        return key(joint.architecture({**chosen, **{f"hyper.{n}": v for n, v in recipe.items()}}))

    assert of("copy", a) == of("direct", a)
    assert of("copy", a) != of("conv", a)
    assert of("copy", a) != of("copy", b)
