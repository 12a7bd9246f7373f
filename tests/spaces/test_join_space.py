"""Spaces searched together."""

from __future__ import annotations

from typing import final

import pytest
import torch
from torch import nn

from nas.decision import Categorical
from nas.errors import BadInput
from nas.rng import stream
from nas.space import Adaptation, Space
from nas.spaces.conv import ConvSpace
from nas.spaces.hyper import HyperSpace
from nas.spaces.join import Join
from nas.spaces.mlp import MlpSpace
from nas.spaces.stochastic_depth import StochasticDepth


@final
class Even(Space):
    """Widths of which only the even ones are feasible."""

    decisions = (Categorical("width", (1, 2, 3, 4)),)

    def build(self, architecture):
        return nn.Linear(1, architecture["width"])

    def feasible(self, architecture):
        return architecture["width"] % 2 == 0


@final
class Wrap(Adaptation):
    """Puts a module with the chosen number after the given one."""

    decisions = (Categorical("scale", (2.0, 3.0)),)

    def __init__(self, model=None):
        self.model = model

    def adapt(self, module, architecture):
        return nn.Sequential(module, nn.Threshold(0.0, architecture["scale"]))


def conv_hyper():
    return Join({"conv": ConvSpace(input_shape=(1, 8, 8)), "hyper": HyperSpace()})


def test_decisions_carry_their_parts_name():
    conv, hyper = ConvSpace(input_shape=(1, 8, 8)), HyperSpace(only=["schedule", "ema"])
    joined = Join({"conv": conv, "hyper": hyper})
    expected = [f"conv.{leaf.name}" for leaf in conv.leaves] + ["hyper.schedule", "hyper.ema"]
    assert [leaf.name for leaf in joined.leaves] == expected
    assert joined.size == conv.size * 9
    assert dict(joined.parts) == {"conv": conv, "hyper": hyper}
    assert list(joined.parts) == ["conv", "hyper"]


def test_one_part_builds_and_the_other_adapts():
    joined = conv_hyper()
    for i in range(5):
        architecture = joined.sample(stream(0, i))
        model = joined.build(architecture)
        assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
        assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [architecture["hyper.dropout"]]
        last = [m.p for m in model.modules() if isinstance(m, StochasticDepth)][-1]
        assert last == pytest.approx(architecture["hyper.stochastic_depth"])
        assert joined.recipe(architecture) == joined.parts["hyper"].recipe(architecture.part("hyper"))
        assert joined.graph(architecture) is None


def test_the_weights_are_those_of_the_building_part():
    joined = conv_hyper()
    architecture = joined.sample(stream(3))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ours = joined.build(architecture).state_dict()
        torch.manual_seed(5)
        alone = joined.parts["conv"].build(architecture.part("conv")).state_dict()
    assert ours.keys() == alone.keys()
    assert all(torch.equal(ours[k], alone[k]) for k in ours)


def test_adaptations_apply_in_order_wherever_the_builder_stands():
    joined = Join({"first": Wrap(), "net": Even(), "second": Wrap()})
    architecture = joined.architecture({"first.scale": 2.0, "net.width": 4, "second.scale": 3.0})
    model = joined.build(architecture)
    assert model[1].value == 3.0
    assert model[0][1].value == 2.0
    assert model[0][0].out_features == 4


def test_all_parts_must_be_feasible():
    joined = Join({"even": Even(), "wrap": Wrap()})
    assert {a["even.width"] for a in joined.enumerate()} == {2, 4}
    assert joined.feasible(joined.architecture({"even.width": 2, "wrap.scale": 2.0}))
    assert not joined.feasible(joined.architecture({"even.width": 3, "wrap.scale": 2.0}))


def test_adaptations_alone_start_from_the_first_ones_model():
    joined = Join({"a": Wrap(lambda: nn.Linear(1, 1)), "b": Wrap()})
    model = joined.build(joined.architecture({"a.scale": 2.0, "b.scale": 3.0}))
    assert isinstance(model[0][0], nn.Linear)
    assert (model[0][1].value, model[1].value) == (2.0, 3.0)


def test_a_join_can_be_joined():
    inner = Join({"net": Even(), "wrap": Wrap()})
    outer = Join({"inner": inner, "again": Wrap()})
    architecture = outer.architecture({"inner.net.width": 2, "inner.wrap.scale": 2.0, "again.scale": 3.0})
    assert outer.build(architecture)[0][0].out_features == 2


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "join must name at least one space"),
        ([Even()], "join must name at least one space"),
        ({"": Even()}, "join must name its parts without dots"),
        ({"a.b": Even()}, "join must name its parts without dots, got 'a.b'"),
        ({"a": "conv"}, "join.a must be a space, got 'conv'"),
        ({"a": Even(), "b": MlpSpace()}, r"exactly one part that builds a network, got \['a', 'b'\]"),
        ({"a": Wrap(), "b": Wrap()}, r"exactly one part that builds.*got \[\]; add one, or give the first"),
        ({"a": Wrap(), "b": Wrap(nn.Identity)}, r"exactly one part that builds.*got \[\]"),
        ({"a": Even(), "b": Wrap(nn.Identity)}, "join.b must have no model beside a"),
        ({"a": Wrap(nn.Identity), "b": Wrap(nn.Identity)}, "join.b must have no model beside a"),
    ],
)
def test_what_cannot_be_joined_is_refused(parts, words):
    with pytest.raises(BadInput, match=words):
        Join(parts)


def test_a_setting_chosen_twice_is_refused():
    twice = Join({"net": Even(), "a": HyperSpace(only=["ema"]), "b": HyperSpace(only=["ema"])})
    with pytest.raises(BadInput, match="join must choose each training setting in one part, got 'ema'"):
        twice.recipe(twice.sample(stream(0)))
