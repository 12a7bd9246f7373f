"""Each metric against its definition, computed the long way round."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import nas
from nas.estimators.proxies import measure
from nas.estimators.proxies.probe import Probe

BATCH = 12


def batches(shape=(3, 6, 6), classes=4, count=2, size=BATCH):
    g = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, *shape, generator=g), torch.randint(0, classes, (size,), generator=g))
        for _ in range(count)
    ]


def task_of(data):
    return nas.Task.from_loaders(data, data)


def convnet(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3, groups=1, bias=False),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def score(module, data, *metrics):
    found = measure(module, task_of(data), metrics, batch_size=None)
    return found[metrics[0]] if len(metrics) == 1 else found


def layers(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def backward(module, batch):
    module.zero_grad()
    cross_entropy(module(batch[0]), batch[1]).backward()
    return [layer.weight.grad.clone() for layer in layers(module)]


def test_gradient_sums_are_those_of_one_backward_pass():
    data, module = batches(), convnet()
    found = score(module, data, "grad_norm", "snip", "plain", "l2_norm")
    gradients = backward(module, data[0])
    weights = [layer.weight.detach() for layer in layers(module)]
    assert found["grad_norm"] == pytest.approx(sum(float(g.norm()) for g in gradients), rel=1e-5)
    assert found["l2_norm"] == pytest.approx(sum(float(w.norm()) for w in weights), rel=1e-5)
    products = [w * g for w, g in zip(weights, gradients, strict=True)]
    assert found["snip"] == pytest.approx(sum(float(p.abs().sum()) for p in products), rel=1e-5)
    assert found["plain"] == pytest.approx(sum(float(p.sum()) for p in products), rel=1e-4)


def test_snip_is_the_gradient_of_a_mask_on_the_weights():
    data, module = batches(), convnet()
    masks = {n: torch.ones_like(p, requires_grad=True) for n, p in module.named_parameters()}
    masked = {n: p * masks[n] for n, p in module.named_parameters()}
    logits = torch.func.functional_call(copy.deepcopy(module), masked, (data[0][0],))
    cross_entropy(logits, data[0][1]).backward()
    expected = sum(float(masks[f"{i}.weight"].grad.abs().sum()) for i in (0, 3, 7))
    assert score(module, data, "snip") == pytest.approx(expected, rel=1e-5)


def test_fisher_by_its_definition():
    data, module = batches(), convnet()
    kept = []

    def keep(_, __, output):
        output.retain_grad()
        kept.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers(module)]
    backward(module, data[0])
    [handle.remove() for handle in handles]
    expected = 0.0
    for layer, a in zip(layers(module), kept, strict=True):
        product = (a * a.grad).detach()
        product = product.sum((2, 3)) if a.ndim == 4 else product
        expected += float((0.5 * product.square().mean(0)).sum()) * layer.weight[0].numel()
    assert score(module, data, "fisher") == pytest.approx(expected, rel=1e-5)
    assert expected > 0


def test_the_masks_of_fisher_change_no_gradient():
    data, module = batches(), convnet()
    alone, together = (
        Probe(module, task_of(data), batch_size=None, shares=shares) for shares in ((), ("channel_products",))
    )
    for name, gradient in alone.gradients.items():
        assert torch.equal(gradient, together.gradients[name])
    for name, product in together.channel_products.items():
        assert torch.equal(product, alone.channel_products[name])
        assert len(product) == BATCH


def test_products_of_sequences_have_the_channel_last():
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4))
    found = Probe(module, task_of(batches((4, 3))), batch_size=None).channel_products
    assert {name: tuple(p.shape) for name, p in found.items()} == {"0": (BATCH, 5), "3": (BATCH, 4)}


def test_grasp_by_the_whole_hessian():
    data = batches((5,), 3)
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()
    x, y = data[0][0].double(), data[0][1]

    def loss(flat):
        first, second = flat[:20].view(4, 5), flat[20:].view(3, 4)
        return cross_entropy(torch.tanh(x @ first.T) @ second.T, y)

    theta = torch.cat([p.detach().flatten() for p in module.parameters()])
    hessian = torch.autograd.functional.hessian(loss, theta)
    gradient = torch.autograd.functional.jacobian(loss, theta)
    expected = -float(theta @ hessian @ gradient)
    assert score(module, [(x, y)], "grasp") == pytest.approx(expected, rel=1e-9)


def synflow_of(module, shape):
    """The published loop: absolute values, no normalisation, ones."""
    bare = copy.deepcopy(module).double().eval()
    for name, part in list(bare.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            bare.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for p in bare.parameters():
            p.abs_()
    bare(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    return math.log(sum((layer.weight * layer.weight.grad).abs().sum().item() for layer in layers(bare)))


def test_synflow_by_the_published_loop_and_to_the_bit():
    module = convnet()
    first = score(module, batches(), "synflow")
    assert first == pytest.approx(synflow_of(module, (3, 6, 6)), rel=1e-12)
    other = [(x + 3, y) for x, y in batches()]
    assert first == score(module, other, "synflow")  # it looks at no data
    assert first != score(convnet(1), batches(), "synflow")


def test_synflow_holds_where_single_precision_would_not():
    torch.manual_seed(0)
    deep = nn.Sequential(*[nn.Linear(64, 64) for _ in range(60)])
    with torch.no_grad():
        for p in deep.parameters():
            p.mul_(30.0)
    assert score(deep, batches((64,), 64), "synflow") > math.log(torch.finfo(torch.float32).max)


def test_nothing_passes_a_dead_module():
    dead = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(dead[1].weight)
    nn.init.zeros_(dead[0].weight)
    nn.init.zeros_(dead[0].bias)
    assert math.isnan(score(dead, batches((4,), 3), "synflow"))


def test_zico_by_numpy():
    data, module = batches(), convnet()
    per_batch = [[g.double().numpy() for g in backward(copy.deepcopy(module), b)] for b in data]
    expected = 0.0
    for layer in zip(*per_batch, strict=True):
        g = np.stack(layer)
        spread = g.std(0)
        expected += math.log((np.abs(g).mean(0)[spread > 0] / spread[spread > 0]).sum())
    assert score(module, data, "zico") == pytest.approx(expected, rel=1e-5)


def test_params_and_macs():
    found = score(convnet(), batches(), "params", "macs")
    assert found == {"params": 3 * 45 + 5 + 10 + 270 + 28, "macs": 36 * 135 + 16 * 270 + 24}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def test_tied_weights_count_once():
    data = batches((6,), 6)
    torch.manual_seed(2)
    module = Tied()
    weight = module.first.weight
    found = score(module, data, "l2_norm", "snip", "params", "fisher", "synflow", "zico", "grasp")
    assert found["l2_norm"] == pytest.approx(weight.norm().item(), rel=1e-6)
    assert found["params"] == 36
    module.zero_grad()
    cross_entropy(module(data[0][0]), data[0][1]).backward()
    assert found["snip"] == pytest.approx((weight * weight.grad).abs().sum().item(), rel=1e-5)
    assert not any(map(math.isnan, found.values()))
    # A channel of the weight is one channel, wherever it is used.
    mask = torch.ones(BATCH, 6, requires_grad=True)
    hidden = torch.tanh(data[0][0] @ weight.T * mask)
    cross_entropy(hidden @ weight.T * mask, data[0][1]).backward()
    expected = float((0.5 * mask.grad.square().mean(0)).sum()) * 6
    assert found["fisher"] == pytest.approx(expected, rel=1e-5)


def test_regression_has_gradients_but_no_classes():
    data = [(torch.randn(8, 3), torch.randn(8, 1))] * 2
    task = nas.Task.from_loaders(data, data, loss=nn.MSELoss())
    found = measure(nn.Linear(3, 1), task, ("snip", "grasp", "fisher", "epe_nas"), batch_size=None)
    assert found["snip"] > 0
    assert found["fisher"] > 0
    assert math.isnan(found["epe_nas"])
