"""The engine: passes are computed once, nothing is left behind, and what cannot be computed says why."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nas
from nas.errors import BadInput, UnknownMetric
from nas.estimators.proxies import METRICS, measure, selected
from nas.estimators.proxies.ledger import Ledger
from nas.estimators.proxies.probe import Probe, Undefined
from nas.estimators.proxies.scores import scores

GRADIENTS = ("grad_norm", "snip", "plain", "fisher", "l2_norm", "grasp", "synflow", "zico", "params", "macs")


def task_of(shape=(2, 6, 6), classes=3, size=8, count=2, labels=None):
    g = torch.Generator().manual_seed(7)
    data = [
        (
            torch.randn(size, *shape, generator=g),
            torch.randint(0, classes, (size,), generator=g) if labels is None else labels,
        )
        for _ in range(count)
    ]
    return nas.Task.from_loaders(data, data, loss=nn.CrossEntropyLoss(), classes=classes)


class Net(nn.Module):
    """A network with everything that a metric may forget to put back."""

    def __init__(self, *, inplace, tied, dropout, functional):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        if tied:
            self.two.weight = self.one.weight
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4, 3)
        self.functional = functional
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.relu(self.norm(self.stem(x)))
        y = self.one(x)
        y += x
        y = torch.relu_(y) if self.functional else self.relu(y)
        return self.head(self.dropout(self.two(y)).mean((2, 3)))


def state(module):
    """Everything about a module that a caller can see."""
    return {
        "values": {n: t.clone() for n, t in module.state_dict().items()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()},
        "places": {n: (id(p), id(p.grad), p.requires_grad) for n, p in module.named_parameters()},
        "modes": [m.training for m in module.modules()],
        "attributes": [
            {k: v for k, v in vars(m).items() if not isinstance(v, dict)} for m in module.modules()
        ],
        "hooks": [
            {k: list(v.items()) for k, v in vars(m).items() if "hooks" in k and isinstance(v, dict)}
            for m in module.modules()
        ],
        "rng": torch.get_rng_state(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


flag = st.booleans()


@settings(max_examples=15, deadline=None)
@given(flag, flag, st.sampled_from([0.0, 0.5]), flag, flag, flag, flag, st.integers(0, 99))
def test_nothing_is_left_behind(inplace, tied, dropout, functional, evaluating, frozen, graded, seed):
    torch.manual_seed(seed)
    module = Net(inplace=inplace, tied=tied, dropout=dropout, functional=functional)
    task = task_of()
    module.norm.train(not evaluating)
    module.stem.requires_grad_(not frozen)
    if graded:
        module.head.weight.grad = torch.ones_like(module.head.weight)
    module.head.register_forward_hook(lambda *_: None)
    before = state(module)
    found = measure(module, task, GRADIENTS, batch_size=None)
    after = state(module)
    for kind in before:
        assert same(before[kind], after[kind]), kind
    assert not any(map(math.isnan, found.values()))
    module.train(evaluating)
    assert measure(module, task, GRADIENTS, batch_size=None) == found  # the mode does not matter


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_no_metric_leaves_anything_behind_or_changes_by_itself(metric):
    torch.manual_seed(0)
    module, task = Net(inplace=True, tied=False, dropout=0.2, functional=True).eval(), task_of()
    before = state(module)
    first = measure(module, task, (metric,), batch_size=None)
    assert same(before, state(module))
    torch.manual_seed(99)
    second = measure(module, task, (metric,), batch_size=None)
    assert set(first) == set(METRICS[metric].components or (metric,))
    assert repr(first) == repr(second)


def changed(inputs, labels):
    """The same task with other inputs, other labels, or both."""
    data = list(task_of().batches("train", seed=0))
    data = [(x.flip(0).square() if inputs else x, y.flip(0) if labels else y) for x, y in data]
    return nas.Task.from_loaders(data, data, loss=nn.CrossEntropyLoss(), classes=3)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_the_table_tells_what_a_metric_looks_at(metric):
    torch.manual_seed(0)
    module = Net(inplace=False, tied=False, dropout=0.0, functional=False)
    values = [
        measure(module, changed(*other), (metric,), batch_size=None)
        for other in ((False, False), (False, True), (True, False))
    ]
    assert not any(map(math.isnan, values[0].values()))
    depends = [repr(values[0]) != repr(other) for other in values[1:]]
    assert {"labels": depends[0], "data": not depends[0], "nothing": depends == [False, False]}[
        METRICS[metric].needs
    ]


WITHOUT = {
    "conv or linear": lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(72), nn.ReLU(), nn.AdaptiveAvgPool1d(3)
    ),
    "ReLU": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.GELU(), nn.Linear(8, 3)),
    "channels with positions": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 3)
    ),
}


@pytest.mark.parametrize("metric", sorted(m for m in METRICS if METRICS[m].layers))
def test_the_table_tells_without_which_layers_a_metric_is_undefined(metric):
    found = measure(WITHOUT[METRICS[metric].layers](), task_of(), (metric,), batch_size=None)
    assert all(map(math.isnan, found.values()))


def test_a_metric_that_breaks_things_and_fails_is_undone():
    def vandal(probe):
        module = probe.module
        module.stem.weight.data.zero_()
        module.norm.running_mean.fill_(5.0)
        module.two.weight = nn.Parameter(torch.ones(1))
        module.relu.inplace = False
        module.added = 3
        module.head = nn.Linear(1, 1)
        module.register_forward_hook(print)
        module.one.forward = None
        module.eval()
        module.one.weight.grad = torch.zeros_like(module.one.weight)
        raise RuntimeError("as planned")

    module = Net(inplace=True, tied=False, dropout=0.0, functional=False)
    module.one.weight.grad = torch.ones_like(module.one.weight)
    before = state(module)
    found = measure(module, task_of(), (vandal, "snip"), batch_size=None)
    assert same(before, state(module))
    assert math.isnan(found["vandal"])
    assert found["snip"] == measure(module, task_of(), ("snip",), batch_size=None)["snip"]


def probe_of(module, task, metrics=GRADIENTS):
    chosen = selected(metrics)
    shares = {s for m in chosen.values() for s in m.shares}
    return Probe(module, task, batch_size=None, shares=shares), chosen


class Counting(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        Counting.calls += 1
        return self.linear(x)


def test_one_pass_serves_all_that_can_share_it():
    Counting.calls = 0
    probe, chosen = probe_of(Counting(), task_of((4,)), ("grad_norm", "snip", "plain", "fisher", "l2_norm"))
    found = scores(probe, chosen)
    assert not found.missing
    assert Counting.calls == 1
    assert probe.outputs.shape == (8, 3)
    assert Counting.calls == 1


def test_a_shared_pass_that_fails_is_not_tried_again():
    class Failing(Counting):
        def forward(self, x):
            super().forward(x)
            raise ValueError("no such thing")

    Counting.calls = 0
    probe, chosen = probe_of(Failing(), task_of((4,)), ("grad_norm", "snip", "l2_norm"))
    found = scores(probe, chosen)
    assert Counting.calls == 1
    assert found.missing == dict.fromkeys(("grad_norm", "snip"), "ValueError: no such thing")
    assert found.values["l2_norm"] > 0


def test_shared_seconds_are_divided(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    ledger = Ledger()
    with ledger.spending("a"):  # 0
        ledger.use("pass")
        with ledger.spending("pass"):  # 1
            pass  # 2
    with ledger.spending("b"):  # 3, 4
        ledger.use("pass")
    # a has 0-1 and 2-3, the pass 1-2, b 4-5
    assert (ledger.seconds("a"), ledger.seconds("b"), ledger.seconds("pass")) == (2.5, 1.5, 1.0)


def test_codes_see_every_relu_before_it_overwrites_its_input():
    module = Net(inplace=True, tied=False, dropout=0.0, functional=True)
    plain = Net(inplace=False, tied=False, dropout=0.0, functional=False)
    plain.load_state_dict(module.state_dict())
    found, expected = (Probe(m, task_of(), batch_size=None).codes for m in (module, plain))
    assert [c.shape for c in found] == [(8, 144), (8, 144)]
    assert all(map(torch.equal, found, expected))
    assert 0 < float(found[0].float().mean()) < 1


def test_jacobian_is_the_gradient_by_each_input():
    torch.manual_seed(0)
    module, task = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), task_of((4,))
    probe = Probe(module, task, batch_size=None)
    rows = torch.func.vmap(torch.func.grad(lambda x: module(x).sum()))(probe.inputs)
    assert torch.allclose(probe.input_jacobian, rows, atol=1e-6)


def test_generators_follow_seed_and_name():
    task = task_of((4,))

    def draw(seed, name):
        probe = Probe(nn.Linear(4, 3), task, seed=seed, batch_size=None)
        return torch.randn(3, generator=probe.generator(name))

    assert torch.equal(draw(1, "a"), draw(1, "a"))
    assert not torch.equal(draw(1, "a"), draw(1, "b"))
    assert not torch.equal(draw(1, "a"), draw(2, "a"))


# --- what cannot be computed ---------------------------------------------------------------------------


def reasons(module, task, *metrics):
    probe, chosen = probe_of(module, task, metrics)
    found = scores(probe, chosen)
    assert all(math.isnan(found.values[m]) for m in found.missing)
    return found.missing


LABELLED = ("grad_norm", "snip", "plain", "fisher", "grasp", "zico")


def test_no_layer_with_weights():
    missing = reasons(
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), task_of((4,), 4), *LABELLED, "l2_norm", "synflow"
    )
    assert len(missing) == 8
    assert set(missing.values()) == {"the module must have a convolution or a linear layer, got none"}


def test_no_relu():
    with pytest.raises(Undefined, match="must have a ReLU, got none"):
        _ = Probe(nn.Linear(4, 3), task_of((4,)), batch_size=None).codes


def test_nan_activations_are_missing_and_never_a_number():
    broken = nn.Linear(4, 3)
    nn.init.constant_(broken.weight, math.nan)
    missing = reasons(broken, task_of((4,)), *LABELLED, "l2_norm", "synflow", "params")
    assert set(missing) == {*LABELLED, "l2_norm", "synflow"}
    assert missing["snip"] == "the module's output must be finite, got NaN or infinity"
    assert missing["l2_norm"] == "it must be finite, got nan"


@pytest.mark.parametrize("classes", [0, 1])
def test_without_two_classes_there_is_no_loss_to_follow(classes):
    task = task_of((4,), 1)
    task.classes = classes
    missing = reasons(nn.Linear(4, 1), task, *LABELLED, "epe_nas", "l2_norm")
    assert set(missing) == {*LABELLED, "epe_nas"}
    assert all(f"2 classes or more, got {classes}" in reason for reason in missing.values())


def test_a_batch_of_one_sample():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    missing = reasons(module, task_of((4,), size=1), *LABELLED, "synflow", "jacob_cov", "l2_norm")
    assert set(missing) == {*LABELLED, "jacob_cov"}
    assert "more than 1 value per channel" in missing["snip"]
    assert not reasons(nn.Linear(4, 3), task_of((4,), size=1), *LABELLED)


def test_one_class_in_the_batch_is_enough_for_gradients():
    task = task_of((4,), labels=torch.zeros(8, dtype=torch.int64))
    assert not reasons(nn.Linear(4, 3), task, *LABELLED)


class Writing(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(72, 3)

    def forward(self, x):
        x *= 2
        return self.linear(torch.relu_(x).flatten(1))


def test_modules_that_write_into_their_input_spoil_no_batch():
    torch.manual_seed(0)
    task = task_of()
    probe, chosen = probe_of(Writing(), task, METRICS)
    before = probe.inputs.clone()
    first = scores(probe, chosen)
    assert torch.equal(probe.inputs, before)
    again = Probe(probe.module, task, batch_size=None)
    assert repr(scores(again, chosen).values) == repr(first.values)
    assert {"snip", "synflow", "jacob_cov", "naswot", "macs"}.isdisjoint(first.missing)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x, y):
        return self.a(x) + self.b(y)


def test_several_inputs_are_enough_for_gradients_only():
    data = [((torch.randn(6, 4), torch.randn(6, 2)), torch.arange(6) % 3) for _ in range(2)]
    task = nas.Task.from_loaders(
        data, data, forward=lambda m, b: m(*b[0]), loss=nn.CrossEntropyLoss(), classes=3
    )
    missing = reasons(TwoInputs(), task, *LABELLED, "l2_norm", "synflow", "macs", "jacob_cov")
    assert set(missing) == {"synflow", "macs", "jacob_cov"}
    assert set(missing.values()) == {"the model's input must be one tensor, got tuple of 2"}


def test_token_indices_are_no_numbers_to_differentiate_by():
    data = [(torch.randint(0, 9, (6, 5)), torch.arange(6) % 3) for _ in range(2)]
    task = nas.Task.from_loaders(data, data)
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.ReLU(), nn.Linear(20, 3))
    missing = reasons(module, task, *LABELLED, "l2_norm", "macs", "naswot", "synflow", "jacob_cov", "epe_nas")
    assert set(missing) == {"synflow", "jacob_cov", "epe_nas"}
    assert missing["synflow"] == "inputs must be real numbers, got torch.int64"


def test_too_few_batches():
    assert (
        "batches must be 2 or more, got 1" in reasons(nn.Linear(4, 3), task_of((4,), count=1), "zico")["zico"]
    )


def test_outputs_that_are_no_tensor():
    missing = reasons(nn.LSTM(4, 3, batch_first=True), task_of((5, 4)), "jacob_cov")
    assert missing["jacob_cov"] == "the module's output must be one tensor, got tuple of 2"


def test_bad_requests_are_refused():
    task = task_of((4,))
    with pytest.raises(UnknownMetric, match="did you mean 'synflow'"):
        measure(nn.Linear(4, 3), task, ("synflo",))
    with pytest.raises(BadInput, match="name each one once"):
        measure(nn.Linear(4, 3), task, ("snip", "snip"))
    with pytest.raises(BadInput, match="must be a DataLoader"):
        measure(nn.Linear(4, 3), task, ("snip",), batch_size=5)


class Halved(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        half = self.linear(x[: len(x) // 2])
        return self.head(self.linear(torch.cat([half, half])))


def test_layers_called_for_unlike_batches_have_no_channels_of_samples_but_gradients():
    missing = reasons(Halved(), task_of((4,)), *LABELLED)
    assert set(missing) == {"fisher"}


def test_attention_has_a_second_derivative():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x):
            q, k, v = self.qkv(x)[:, None].chunk(3, -1)
            return self.out(nn.functional.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))

    assert not reasons(Attention(), task_of((5, 4)), *LABELLED, "synflow")


@pytest.mark.cuda
def test_devices_agree():
    module, task = Net(inplace=True, tied=True, dropout=0.0, functional=True), task_of()
    here = measure(module, task, GRADIENTS, batch_size=None)
    there = measure(module.cuda(), task, GRADIENTS, batch_size=None)
    for name, value in here.items():
        assert there[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name
