"""Metrics of activations and spectra against direct ways of writing their formulas, on tiny networks."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas
from nas.errors import BadInput
from nas.estimators.proxies.az_nas import az_nas, entropy, trainability
from nas.estimators.proxies.epe_nas import epe_nas, within_classes
from nas.estimators.proxies.jacob_cov import correlations, jacob_cov
from nas.estimators.proxies.linear_regions import linear_regions
from nas.estimators.proxies.meco import meco
from nas.estimators.proxies.naswot import naswot
from nas.estimators.proxies.ntk_condition import condition, ntk_condition
from nas.estimators.proxies.probe import Probe, Undefined
from nas.estimators.proxies.swap import regularised, swap
from nas.estimators.proxies.zen import zen

ALL = (jacob_cov, epe_nas, naswot, zen, ntk_condition, linear_regions, meco, swap, az_nas)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])


def task(x=None, y=None, classes=3):
    """Eight images of two channels in three classes, one batch, always in the same order."""
    x = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0)) if x is None else x
    y = LABELS if y is None else y
    loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
    return nas.Task.from_loaders(loader, loader, loss=nn.CrossEntropyLoss(), classes=classes)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)))


def network(seed=1):
    torch.manual_seed(seed)
    blocks = (Block(4, 4), Block(4, 8, stride=2))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), *blocks, *head)


def perceptron(seed=1):
    torch.manual_seed(seed)
    hidden = (nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 3))


def probe(module=None, its=None, **settings):
    return Probe(network() if module is None else module, its or task(), batch_size=None, **settings)


def images(its=None):
    return next((its or task()).batches("train", seed=0))


def jacobian(module):
    x = images()[0].requires_grad_()
    module = deepcopy(module).train()
    module(x).sum().backward()
    return x.grad.flatten(1).double().numpy()


def codes(module, x):
    """Signs of the ReLUs' outputs, one row a sample."""
    found = []
    module = deepcopy(module).train()
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda *call: found.append((call[2] > 0).flatten(1).clone()))
    module(x)
    return torch.cat(found, 1)


def state(module):
    return {
        **{name: t.detach().clone() for name, t in module.state_dict().items()},
        "grad": [p.grad for p in module.parameters()],
        "modes": [m.training for m in module.modules()],
        "hooks": [len(m._forward_hooks) for m in module.modules()],
        "in place": [m.inplace for m in module.modules() if isinstance(m, nn.ReLU)],
        "wanted": [p.requires_grad for p in module.parameters()],
    }


# -- each formula ---------------------------------------------------------------------------------------


def test_jacob_cov_is_the_published_sum_over_eigenvalues():
    v, k = np.linalg.eigvals(np.corrcoef(jacobian(network()))).real, 1e-5
    assert jacob_cov(probe()) == pytest.approx(-np.sum(np.log(v + k) + 1 / (v + k)), rel=1e-4)


def test_uncorrelated_jacobians_give_the_most():
    rows = torch.eye(4)[:3] - 0.25
    assert correlations(rows)[0, 1] == pytest.approx(-1 / 3)
    orthogonal = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    assert torch.allclose(correlations(orthogonal), torch.eye(2).double())


def test_epe_nas_sums_the_logarithms_within_classes():
    rows, total = jacobian(network()), 0.0
    for c in range(3):
        total += abs(np.log(np.abs(np.corrcoef(rows[c == LABELS])) + 1e-5).sum())
    assert epe_nas(probe()) == pytest.approx(total, rel=1e-4)


def test_epe_nas_compares_classes_where_there_are_many():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2])  # the class of one sample is left out
    matrix = correlations(torch.randn(7, 30, generator=torch.Generator().manual_seed(0)))
    a, b = (float((matrix[s, s].abs() + 1e-5).log().sum()) / 3 for s in (slice(0, 3), slice(3, 6)))
    assert within_classes(matrix, labels, 101) == pytest.approx(2 * abs(a - b) / 2)
    few = 3 * (abs(a) + abs(b)) + math.log(1 + 1e-5)
    assert within_classes(matrix, labels, 100) == pytest.approx(few)


def test_naswot_is_the_log_determinant_of_agreements():
    c = codes(network(), images()[0]).double()
    kernel = c @ c.T + (1 - c) @ (1 - c).T
    assert naswot(probe()) == pytest.approx(np.linalg.slogdet(kernel.numpy())[1], rel=1e-9)


def test_naswot_does_not_depend_on_the_order_or_scale_of_samples():
    x, y = images()
    found = naswot(probe(perceptron()))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    assert naswot(probe(perceptron(), task(x[order], y[order]))) == pytest.approx(found, rel=1e-9)
    unbiased = perceptron()
    for part in unbiased:
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
    assert naswot(probe(unbiased, task(7 * x))) == naswot(probe(unbiased))


def test_ntk_condition_is_that_of_the_gradients_gram_matrix():
    module = perceptron()
    weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(module(x[None]).sum(), weights)])
        for x in images()[0]
    ]
    v = torch.linalg.eigvalsh(torch.stack(rows).double() @ torch.stack(rows).double().T)
    # Without batch statistics, a sample's gradient in the batch is its gradient alone.
    assert ntk_condition(probe(module)) == pytest.approx(float(v[-1] / v[0]), rel=1e-3)
    first = condition(torch.stack(rows[:4]))
    assert ntk_condition(probe(module), samples=4) == pytest.approx(first, rel=1e-3)


def test_ntk_condition_sees_what_batch_statistics_carry_between_samples():
    module = network().train()
    weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
    logits = module(images()[0])
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(row.sum(), weights, retain_graph=True)])
        for row in logits
    ]
    assert ntk_condition(probe(network())) == pytest.approx(condition(torch.stack(rows)), rel=1e-3)


def test_linear_regions_counts_different_sign_patterns():
    c = codes(perceptron(), images()[0])
    rows = {tuple(row.tolist()) for row in c}
    assert linear_regions(probe(perceptron()), units=None) == len(rows)
    x = images()[0]
    x[4:] = x[:4]
    assert linear_regions(probe(perceptron(), task(x)), units=None) == len({tuple(r.tolist()) for r in c[:4]})
    assert 1 <= linear_regions(probe(perceptron()), units=1) <= 2
    assert linear_regions(probe(), units=2) < linear_regions(probe(), units=12) <= 8


def test_meco_sums_the_smallest_eigenvalues_of_channel_correlations():
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(72, 3)
    )
    one = probe(module)
    x = torch.randn(1, 2, 6, 6, generator=one.generator("meco"))
    first = module[0](x)
    maps = (first, first.tanh(), module[2](first.tanh()))
    lowest = [np.linalg.eigvalsh(np.corrcoef(m[0].flatten(1).detach().double().numpy()))[0] for m in maps]
    assert meco(one) == pytest.approx(sum(lowest), rel=1e-6)


def test_a_constant_channel_correlates_with_nothing():
    module = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(72, 3))
    nn.init.zeros_(module[0].weight)
    assert meco(probe(module)) == 0.0


def test_swap_counts_different_units_and_its_regularised_form_prefers_a_size():
    module = perceptron()
    one = probe(module)
    generator = one.generator("swap")
    drawn = deepcopy(module)
    with torch.no_grad():
        for part in drawn:
            if isinstance(part, nn.Linear):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
                part.bias.zero_()
    columns = {tuple(column.tolist()) for column in codes(drawn, images()[0]).T}
    assert swap(one, repeats=1) == len(columns)
    params = sum(p.numel() for p in module.parameters())
    assert regularised(params, 1e4)(one) == swap(one)
    assert regularised(params - 100, 1e4)(one) == pytest.approx(swap(one) * math.exp(-1))
    with pytest.raises(BadInput, match="sigma must be above 0, got 0"):
        regularised(1e6, 0)


def test_zen_is_the_logarithm_of_the_change_and_of_the_normalisations():
    one = probe()
    generator = one.generator("zen")
    module = network().train()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
                if part.bias is not None:
                    part.bias.zero_()
        x, other = (torch.randn(16, 2, 6, 6, generator=generator) for _ in range(2))
        before_pooling = module[:4]
        change = (before_pooling(x) - before_pooling(x + 0.01 * other)).abs().sum((1, 2, 3)).mean().log()
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    # The modules' own running variances, which keep 0.9 of what they were.
    scales = sum(norm.running_var.mean().sqrt().log() for norm in norms)
    assert zen(one, repeats=1) == pytest.approx(float(change + scales), rel=1e-4)


def test_zen_of_a_perceptron_looks_at_its_last_hidden_layer():
    module = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 3))
    its = task(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    one = probe(module, its)
    generator = one.generator("zen")
    weight, _, _, other = (torch.randn(*s, generator=generator) for s in ((6, 4), (3, 6), (16, 4), (16, 4)))
    expected = (0.01 * other @ weight.T).abs().sum(1).mean().log()
    assert zen(one, repeats=1) == pytest.approx(float(expected), rel=1e-3)


def test_dropout_does_not_count_as_a_change_of_the_input():
    module = network()
    dropped = nn.Sequential(*module[:2], nn.Dropout(0.5), *module[2:])
    assert zen(probe(dropped)) == pytest.approx(zen(probe(module)), abs=1.5)


def test_entropy_is_largest_for_equal_variances():
    x = torch.randn(20000, 4, generator=torch.Generator().manual_seed(0))
    assert entropy(x) == pytest.approx(math.log(4), abs=1e-3)
    assert entropy(x[:, :1] * torch.ones(4)) == pytest.approx(0.0, abs=1e-6)
    assert entropy(x.view(200, 10, 10, 4).permute(0, 3, 1, 2)) == pytest.approx(entropy(x), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, -1.0, 2.0])
def test_trainability_is_highest_where_gradients_keep_their_size(scale):
    before = torch.ones(2, 3, 4, 4, requires_grad=True)
    found = trainability(before, before * scale, torch.Generator().manual_seed(0))
    # The signs' own Gram matrix comes instead of the identity, so that s exceeds its limit a little.
    signs = torch.randint(0, 2, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    rows = signs.movedim(1, -1).reshape(-1, 3)
    s = abs(scale) * float(torch.linalg.matrix_norm(rows.T @ rows / 32, 2))
    assert found == (-math.inf if scale == 1.0 else pytest.approx(2 - s - 1 / s, abs=1e-4))


def test_trainability_takes_the_positions_of_a_stride_as_channels():
    before = torch.randn(2, 3, 4, 4, requires_grad=True, generator=torch.Generator().manual_seed(0))
    after = nn.functional.avg_pool2d(before, 2)
    found = trainability(before, after, torch.Generator().manual_seed(0))
    signs = torch.randint(0, 2, after.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    rows = signs.movedim(1, -1).reshape(-1, 3)
    spread = torch.kron(rows, torch.ones(1, 4)) / 4
    s = float(torch.linalg.svdvals(spread.T @ rows / len(rows))[0])
    assert found == pytest.approx(2 - s - 1 / s, abs=1e-4)


def test_az_nas_sees_the_stem_and_each_block():
    found = az_nas(probe())
    assert found["az_nas_complexity"] == 36 * 4 * 18 + 36 * 4 * 36 + 9 * 8 * 36 + 24
    assert 0 < found["az_nas_expressivity"] < 2 * math.log(4) + math.log(8)
    assert found["az_nas_expressivity"] > 3 * found["az_nas_progressivity"]
    assert found["az_nas_trainability"] <= 0
    staged = network()
    staged = nn.Sequential(*staged[:2], nn.Sequential(*staged[2:4]), nn.Sequential(*staged[4:]))
    assert az_nas(probe(staged)) == pytest.approx(found)  # containers and heads are no blocks


# -- what holds for all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
def test_nothing_is_left_behind_and_nothing_depends_on_the_modes(metric):
    module = network()
    module[2].conv.weight.requires_grad_(False)
    before, generator = state(module), torch.get_rng_state()
    found = metric(probe(module))
    after = state(module)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name], (
            name
        )
    assert metric(probe(module.eval())) == found
    assert not module.training


@pytest.mark.parametrize("metric", [zen, meco, swap, az_nas], ids=lambda m: m.__name__)
def test_random_inputs_follow_from_the_seed(metric):
    assert metric(probe(seed=1)) == metric(probe(seed=1)) != metric(probe(seed=2))


@pytest.mark.parametrize("metric", [zen, meco, az_nas], ids=lambda m: m.__name__)
def test_metrics_without_data_do_not_look_at_it(metric):
    assert metric(probe()) == metric(probe(None, task(images()[0] * 3 + 1)))


@pytest.mark.parametrize("metric", [zen, swap, az_nas], ids=lambda m: m.__name__)
def test_metrics_with_weights_of_their_own_do_not_look_at_the_module_s(metric):
    assert metric(probe(network(1))) == metric(probe(network(2)))


# -- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [naswot, linear_regions, swap], ids=lambda m: m.__name__)
def test_a_module_without_relu_is_refused(metric):
    with pytest.raises(Undefined, match="must have a ReLU, got none"):
        metric(probe(nn.Sequential(nn.Flatten(), nn.Linear(72, 3))))


@pytest.mark.parametrize("metric", [jacob_cov, epe_nas, ntk_condition], ids=lambda m: m.__name__)
def test_a_batch_of_one_is_refused(metric):
    its = task(images()[0][:1], LABELS[:1])
    with pytest.raises(Undefined, match="2 samples or more, got 1"):
        metric(probe(perceptron(), its))


def test_equal_samples_have_no_log_determinant_and_no_kernel():
    x = images()[0]
    x[5] = x[2]
    for metric, reason in ((naswot, "rank 7 for 8 samples"), (ntk_condition, "eigenvalue of zero")):
        with pytest.raises(Undefined, match=reason):
            metric(probe(perceptron(), task(x)))


def test_one_class_and_classes_of_one_sample_are_refused():
    with pytest.raises(Undefined, match="2 classes or more, got 1"):
        epe_nas(probe(None, task(y=torch.zeros(8, dtype=torch.long), classes=1)))
    with pytest.raises(Undefined, match="got one of each"):
        epe_nas(probe(None, task(y=torch.arange(8), classes=8)))


def test_inputs_without_effect_are_refused():
    module = perceptron()
    nn.init.zeros_(module[1].weight)
    with pytest.raises(Undefined, match="constant Jacobian"):
        jacob_cov(probe(module))
    dead = nn.Sequential(nn.Threshold(1e9, 0.0), nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(Undefined, match="features must change"):
        zen(probe(dead))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
def test_nan_activations_give_no_value(metric):
    class Broken(nn.Module):
        """Gives NaN."""

        def forward(self, x):
            return x * math.nan

    with pytest.raises(Undefined, match="must be finite"):
        metric(probe(nn.Sequential(*network()[:4], Broken(), *network()[4:])))


@pytest.mark.parametrize("metric", [zen, swap, az_nas, naswot], ids=lambda m: m.__name__)
def test_tied_weights_are_drawn_and_put_back_together(metric):
    module, again = network(), Block(4, 4)
    again.conv.weight = module[2].conv.weight
    tied = nn.Sequential(*module[:3], again, *module[3:])
    weight = again.conv.weight.detach().clone()
    found = metric(probe(tied))
    assert all(math.isfinite(v) for v in (found.values() if isinstance(found, dict) else (found,)))
    assert again.conv.weight is tied[2].conv.weight
    assert torch.equal(again.conv.weight, weight)


def test_a_block_that_passes_its_input_on_has_no_trainability():
    class Same(nn.Module):
        """Has a part, and does nothing."""

        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x):
            return self.part(x) * 1

    module = network()
    found = az_nas(probe(nn.Sequential(*module[:3], Same(), *module[3:])))
    assert found["az_nas_trainability"] == -math.inf
    assert found["az_nas_progressivity"] <= 0


def test_a_plain_chain_of_layers_has_its_layers_as_blocks():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    plain = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))
    nested = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(16, 3))
    assert az_nas(probe(plain)) == pytest.approx(az_nas(probe(nested)))
    assert az_nas(probe(plain))["az_nas_expressivity"] < 2 * math.log(4)


def test_az_nas_without_features_to_compare_is_refused():
    with pytest.raises(Undefined, match="2 blocks or more"):
        az_nas(probe(nn.Linear(4, 3), task(torch.randn(8, 4))))


class Two(nn.Module):
    """Takes images and numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.images, self.numbers = nn.Linear(72, 32), nn.Linear(4, 32)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x, numbers):
        return self.last(self.images(x.flatten(1)) + self.numbers(numbers))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
def test_several_inputs_are_refused_where_one_must_be_chosen(metric):
    x, y = images()
    batches = [((x, torch.ones(8, 4)), y)]
    both = nas.Task.from_loaders(
        batches, batches, loss=nn.CrossEntropyLoss(), forward=lambda model, batch: model(*batch[0]), classes=3
    )
    if metric in (naswot, linear_regions):
        assert metric(probe(Two(), both)) > 0
    else:
        with pytest.raises(Undefined, match="input must be one tensor, got tuple of 2"):
            metric(probe(Two(), both))


def test_tokens_cannot_be_differentiated_by():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(9, 32), nn.ReLU(), nn.Flatten(), nn.Linear(160, 3))
    its = task(torch.arange(40).view(8, 5) * 7 % 9)
    assert naswot(probe(module, its)) > 0
    assert ntk_condition(probe(module, its)) > 1
    for metric in (jacob_cov, epe_nas, zen, meco, az_nas):
        with pytest.raises(Undefined, match="inputs must be real numbers"):
            metric(probe(module, its))
