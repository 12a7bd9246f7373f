"""The space of training settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas.errors import BadInput
from nas.rng import stream
from nas.spaces.hyper import NAMES, RANGES, HyperSpace
from nas.spaces.stochastic_depth import StochasticDepth

FULL = {
    "optimizer": "adamw",
    "optimizer.adamw.lr": 1e-3,
    "optimizer.adamw.weight_decay": 0.01,
    "batch_size": 64,
    "schedule": "linear",
    "label_smoothing": 0.1,
    "dropout": 0.2,
    "stochastic_depth": 0.3,
    "ema": 0.99,
    "augmentation": "crop_flip",
    "mixup": 0.2,
}


def names(space):
    return [leaf.name for leaf in space.leaves]


def test_the_recipe_has_plain_names_and_leaves_out_what_the_module_holds():
    space = HyperSpace()
    recipe = space.recipe(space.architecture(FULL))
    assert recipe == {
        "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "batch_size": 64, "schedule": "linear",
        "label_smoothing": 0.1, "ema": 0.99, "augmentation": "crop_flip", "mixup": 0.2,
    }  # fmt: skip


def test_each_optimizer_has_its_own_rates_and_only_its_own():
    space = HyperSpace()
    seen = set()
    for i in range(60):
        architecture = space.sample(stream(0, i))
        optimizer = architecture["optimizer"]
        seen.add(optimizer)
        assert sum(name.startswith("optimizer.") for name in architecture) == 2
        recipe = space.recipe(architecture)
        for name in ("lr", "weight_decay"):
            low, high = RANGES[optimizer][name]
            assert low <= recipe[name] <= high
            assert recipe[name] == architecture[f"optimizer.{optimizer}.{name}"]
    assert seen == {"sgd", "adamw"}


def test_only_chooses_what_is_searched():
    space = HyperSpace(only=["batch_size", "optimizer", "lr"], batch_sizes=[16, 48])
    assert names(space) == ["optimizer", "optimizer.sgd.lr", "optimizer.adamw.lr", "batch_size"]
    recipe = space.recipe(space.sample(stream(1)))
    assert set(recipe) == {"optimizer", "lr", "batch_size"}
    assert recipe["batch_size"] in (16, 48)
    assert names(HyperSpace(only=["schedule"])) == ["schedule"]
    assert set(HyperSpace(only=["schedule"]).recipe(HyperSpace().architecture(FULL))) == {"schedule"}


def test_a_rate_without_a_choice_of_optimizer_names_its_optimizer():
    space = HyperSpace(only=["lr"], optimizers=["adamw"])
    assert names(space) == ["lr"]
    assert space.recipe(space.architecture({"lr": 1e-3})) == {"optimizer": "adamw", "lr": 1e-3}
    with pytest.raises(BadInput, match=r"lr must lie in \[0\.0001, 0\.02\]"):
        space.architecture({"lr": 0.3})


def test_a_task_drops_what_does_not_suit_it(shape_task, image_task):
    everything = names(HyperSpace(image_task((1, 8, 8), 10)))
    assert everything == names(HyperSpace())
    table = names(HyperSpace(shape_task((5,), 3)))
    assert set(everything) - set(table) == {"augmentation", "mixup"}
    regression = names(HyperSpace(image_task((1, 8, 8), None)))
    assert set(everything) - set(regression) == {"label_smoothing", "mixup"}
    with pytest.raises(BadInput, match="only must suit the task ShapeTask, got 'mixup'"):
        HyperSpace(shape_task((5,), 3), only=["mixup"])


def network():
    blocks = [nn.Sequential(nn.Linear(4, 4), StochasticDepth()) for _ in range(3)]
    return nn.Sequential(nn.Dropout(0.5), *blocks, nn.Dropout(), nn.Linear(4, 2))


def test_adapting_sets_dropout_everywhere_and_depth_rising_linearly():
    space = HyperSpace()
    module = network()
    adapted = space.adapt(module, space.architecture(FULL))
    assert adapted is module
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.2]
    drops = [m.p for m in module.modules() if isinstance(m, StochasticDepth)]
    assert drops == pytest.approx([0.1, 0.2, 0.3])


def test_adapting_leaves_alone_what_is_not_searched():
    space = HyperSpace(only=["schedule"])
    module = space.adapt(network(), space.sample(stream(0)))
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(("name", "kind"), [("dropout", "Dropout"), ("stochastic_depth", "StochasticDepth")])
def test_a_module_without_the_layer_is_refused_at_any_value(name, kind):
    space = HyperSpace(only=["schedule", name])
    words = rf"the module must have a {kind} for {name} to be searched.*only: \[schedule\]"
    for value in (0.0, 0.1):
        with pytest.raises(BadInput, match=words):
            space.adapt(nn.Linear(2, 2), space.architecture({"schedule": "cosine", name: value}))


def test_alone_it_needs_a_model():
    space = HyperSpace(model=network)
    module = space.build(space.architecture(FULL))
    assert module(torch.randn(3, 4)).shape == (3, 2)
    assert module[0].p == 0.2
    with pytest.raises(BadInput, match=r"HyperSpace.model must be a factory"):
        HyperSpace().build(space.architecture(FULL))


def test_a_model_can_be_named():
    identity = HyperSpace(only=["ema"], model="torch.nn:Identity")
    assert isinstance(identity.build(identity.sample(stream(0))), nn.Identity)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"only": ["learning"]}, "only: unknown name 'learning'"),
        ({"only": ["label_smooting"]}, "did you mean 'label_smoothing'"),
        ({"only": []}, "only must list distinct names among optimizer, lr"),
        ({"only": "lr"}, "only must list distinct names"),
        ({"only": ["lr", "lr"]}, "only must list distinct names"),
        ({"only": ["lr"]}, r"optimizers must be one to search lr of, got \['sgd', 'adamw'\]"),
        ({"only": ["optimizer"]}, "only must have lr beside optimizer"),
        ({"optimizers": ["adam"]}, "optimizers: unknown name 'adam'; did you mean 'adamw'"),
        ({"batch_sizes": [64, 32]}, "batch_sizes must list distinct whole numbers in ascending order"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        HyperSpace(**settings)


def test_every_name_can_be_searched():
    assert {name.rpartition(".")[2] for name in names(HyperSpace())} == set(NAMES)
