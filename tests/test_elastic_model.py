"""Trained networks as spaces: the full path is the network, narrow ones are what pruning makes of it."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import nas
from nas.errors import BadInput
from nas.sharing.importance import Part, Units, by_loss, by_weights
from nas.sharing.pruned import kept
from nas.sharing.pruned_attention import NarrowAttention, NarrowEncoderLayer, Projections
from nas.testing.space_checks import SPACE_CHECKS


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.first, self.norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.norm(self.first(x)))) + self.shortcut(x))


def residual():
    blocks = (Block(4, 4), Block(4, 8, 2), Block(8, 8), Block(8, 8))
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Sequential(*blocks),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def chain():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.Hardswish(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 9, 10),
        nn.BatchNorm1d(10),
        nn.Sigmoid(),
        nn.Linear(10, 3),
    )


class Transformer(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, **{"batch_first": True, **settings})
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x.flatten(1).unflatten(1, (8, 8)))
        x = x if self.encoder.layers[0].self_attn.batch_first else x.transpose(0, 1)
        return self.head(self.encoder(x).mean(1 if self.encoder.layers[0].self_attn.batch_first else 0))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        layer = nn.TransformerDecoderLayer(16, 4, 24, 0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x.flatten(1).unflatten(1, (8, 8)))
        mask = torch.ones(8, 8, device=x.device).triu(1).bool()
        return self.head(self.decoder(x, x[:, :5], tgt_mask=mask).mean(1))


class Fused(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.num_heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(out.transpose(1, 2).reshape(b, n, c))


class FusedBlock(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.before, self.attention = nn.LayerNorm(16), Fused(16, 4, causal)
        self.between = nn.LayerNorm(16)
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x):
        x = x + self.attention(self.before(x))
        y = self.between(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Untraceable(nn.Module):
    def __init__(self, *, causal=False):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.cls = nn.Parameter(0.3 * torch.randn(1, 1, 16))
        self.blocks = nn.ModuleList(FusedBlock(causal) for _ in range(3))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x.flatten(1).unflatten(1, (8, 8)))
        if float(x.detach().abs().max()) > 1e9:
            raise ValueError("too large")
        x = torch.cat([self.cls.expand(len(x), 1, 16), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


MODELS = {
    "residual": residual,
    "chain": chain,
    "transformer": Transformer,
    "transformer_norm_first": lambda: Transformer(norm_first=True, activation="gelu"),
    "transformer_seq_first": lambda: Transformer(batch_first=False, bias=False),
    "decoder": Decoder,
    "fused": Untraceable,
    "fused_causal": lambda: Untraceable(causal=True),
}
X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]()
        for module in model.modules():  # as training would leave them
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


SPACES = {name: nas.elastic(made(name), X[:1], depth=1) for name in MODELS}
NAMED = pytest.mark.parametrize("name", list(MODELS))


def some(space, n=6):
    return [space.sample(nas.stream(0, "test", i)) for i in range(n)]


def end(space, **chosen):
    """The full architecture but for what is chosen."""
    return space.architecture({**space.full, **{k.replace("__", "."): v for k, v in chosen.items()}})


def _fused(key):
    """Where a model's own attention keeps a weight when its heads are elastic."""
    return key.replace(".attention.", ".attention.attention.")


@NAMED
@pytest.mark.parametrize("training", [False, True])
def test_the_full_path_is_the_network_bit_for_bit(name, training):
    model, space = made(name).train(training), SPACES[name]
    supernet = space.supernet().train(training)
    assert torch.equal(supernet(X, space.full), model(X))
    with torch.no_grad():  # where torch fuses transformer layers
        assert torch.equal(supernet(X, space.full), model(X))
    ours = {k.replace(".block.", "."): v for k, v in supernet.module.state_dict().items()}
    for key, statistic in model.state_dict().items():  # also the batch norms' after a step of training
        assert torch.equal(statistic, next(v for k, v in ours.items() if k in (key, _fused(key))))


@NAMED
def test_gradients_of_the_full_path_are_the_networks(name):
    model, space = made(name).train(), SPACES[name]
    supernet = space.supernet().train()
    supernet(X, space.full).square().sum().backward()
    model(X).square().sum().backward()
    ours = [p.grad for p in supernet.parameters()]
    assert len(ours) == len(list(model.parameters()))
    for mine, theirs in zip(ours, (p.grad for p in model.parameters()), strict=True):
        assert torch.equal(mine, theirs)


@NAMED
def test_the_path_of_the_full_size_has_the_networks_own_modules(name):
    model, space = made(name), SPACES[name]
    path = space.supernet().path(space.full)
    assert [type(m) for m in path.modules()] == [type(m) for m in model.modules()]
    for key, value in model.state_dict().items():
        assert torch.equal(path.state_dict()[key], value)


@NAMED
def test_the_space_keeps_to_its_contract(name):
    for check in SPACE_CHECKS:
        check(SPACES[name], X)


@NAMED
def test_built_networks_take_the_weights_of_paths_and_are_smaller(name):
    space = SPACES[name]
    supernet = space.supernet()
    whole = sum(p.numel() for p in made(name).parameters())
    for a in some(space):
        built, path = space.build(a), supernet.path(a)
        built.load_state_dict(path.state_dict())
        assert torch.equal(built.eval()(X), path.eval()(X))
        assert (sum(p.numel() for p in built.parameters()) < whole) == (a != space.full)


@NAMED
def test_narrow_paths_train_the_shared_weights(name):
    space = SPACES[name]
    supernet = space.supernet().train()
    before = {k: v.clone() for k, v in supernet.module.named_parameters()}
    smallest = space.architecture({leaf.name: leaf.values[0] for leaf in space.leaves})
    loss = supernet(X, smallest).square().sum()
    loss.backward()
    with torch.no_grad():
        for p in supernet.parameters():
            if p.grad is not None:
                p -= 0.01 * p.grad
    assert any(not torch.equal(before[k], v) for k, v in supernet.module.named_parameters())
    assert supernet(X, smallest).square().sum() < loss


@NAMED
def test_models_are_left_as_they_are(name):
    model = made(name).train()
    weights = copy.deepcopy(model.state_dict())
    types = [type(m) for m in model.modules()]
    nas.elastic(model, X[:1], batch=(X, torch.tensor([0, 1, 2, 0, 1])))
    assert model.training
    assert types == [type(m) for m in model.modules()]
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in weights.items())
    assert all(p.grad is None for p in model.parameters())


# --- what narrow means ----------------------------------------------------------------------------


def silenced(model, name, units, block=1):
    """The model whose map ``name`` reads nothing of some units: what leaving them out must amount to."""
    model = copy.deepcopy(model)
    columns = (torch.tensor(units)[:, None] * block + torch.arange(block)).flatten()
    with torch.no_grad():
        model.get_submodule(name).weight[:, columns] = 0.0
    return model


@pytest.mark.parametrize(
    ("name", "decision", "reader", "block"),
    [
        ("residual", "2.2.first", "2.2.second", 1),
        ("chain", "0", "7", 1),  # past two norms and a depthwise convolution
        ("chain", "7", "10", 9),  # flattened: each channel is nine features
        ("chain", "10", "13", 1),
        ("transformer", "encoder.layers.1.linear1", "encoder.layers.1.linear2", 1),
        ("transformer", "encoder.layers.1.self_attn.heads", "encoder.layers.1.self_attn.out_proj", 4),
        (
            "transformer_norm_first",
            "encoder.layers.2.self_attn.heads",
            "encoder.layers.2.self_attn.out_proj",
            4,
        ),
        (
            "transformer_seq_first",
            "encoder.layers.0.self_attn.heads",
            "encoder.layers.0.self_attn.out_proj",
            4,
        ),
        ("decoder", "decoder.layers.1.linear1", "decoder.layers.1.linear2", 1),
        ("decoder", "decoder.layers.1.multihead_attn.heads", "decoder.layers.1.multihead_attn.out_proj", 4),
        ("fused", "blocks.0.gate", "blocks.0.down", 1),
        ("fused", "blocks.1.attention.heads", "blocks.1.attention.proj", 4),
        ("fused_causal", "blocks.1.attention.heads", "blocks.1.attention.proj", 4),
    ],
)
def test_a_narrow_path_is_the_network_without_its_least_important_units(name, decision, reader, block):
    model, space = made(name), SPACES[name]
    supernet = space.supernet().eval()
    (order,) = {
        tuple(b.tolist())
        for key, b in supernet.module.named_buffers()
        if key.replace(".block.", ".").rpartition(".")[0] == decision.removesuffix(".heads")
        and key.endswith(("outputs", "order"))
    }
    for n in space.by_name[decision].values:
        dropped = sorted(order[n:])
        expected = silenced(model, reader, dropped, block) if dropped else model
        with torch.no_grad():
            got = supernet(X, space.architecture({**space.full, decision: n}))
            torch.testing.assert_close(got, expected(X), rtol=1e-4, atol=1e-5)


def test_a_shallow_path_is_the_first_blocks():
    model, space = made("residual"), SPACES["residual"]
    shallow = copy.deepcopy(model)
    shallow[2] = shallow[2][:3]
    with torch.no_grad():
        got = space.supernet().eval()(X, end(space, **{"2__depth": 1}))
        assert torch.equal(got, shallow(X))


def test_what_varies_in_a_decoder():
    inside = ("linear1", "multihead_attn.heads", "self_attn.heads")
    layers = [f"decoder.layers.{i}.{name}" for i in range(2) for name in inside]
    assert sorted(SPACES["decoder"].by_name) == [*layers, "decoder.layers.depth"]


def test_widths_of_blocks_that_are_left_out_are_not_asked_for():
    space = SPACES["transformer"]
    a = end(space, encoder__layers__depth=1)
    assert "encoder.layers.0.linear1" in a
    assert not any(name.startswith(("encoder.layers.1.", "encoder.layers.2.")) for name in a)


def test_kept_units_are_nested_and_in_their_own_order():
    order = torch.tensor([3, 0, 2, 1])
    assert kept(order, 2).tolist() == [0, 3]
    assert kept(order, 3).tolist() == [0, 2, 3]
    assert kept(order, 2, block=2).tolist() == [0, 1, 6, 7]


def test_narrow_batch_norms_learn_the_statistics_of_kept_channels_only():
    space = SPACES["chain"]
    supernet = space.supernet().train()
    norm = supernet.module[1]
    before = norm.running_mean.clone()
    supernet(X, end(space, **{"0": 2}))
    chosen = kept(norm.channels, 2).tolist()
    assert norm.num_batches_tracked == 1
    for i in range(8):
        assert (norm.running_mean[i] != before[i]) == (i in chosen)


# --- padding, and torch's fused kernels -----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [False, True])
def test_padding_is_left_out_of_narrow_layers_too(nested):
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

        def forward(self, x):
            return self.encoder(x, src_key_padding_mask=x[..., 0] == 0.0)

    torch.manual_seed(0)
    model = Padded().eval()
    x = torch.randn(2, 6, 16)
    x[1, 4:] = 0.0
    space = nas.elastic(model, x[:1])
    narrow = space.architecture({leaf.name: leaf.values[1] for leaf in space.leaves})
    supernet = space.supernet().eval()
    with torch.no_grad():
        assert torch.equal(supernet(x, space.full), model(x))
        both, path = supernet(x, narrow), supernet.path(narrow).eval()
        torch.testing.assert_close(path(x), both)
        torch.testing.assert_close(supernet(x[1:, :4], narrow), both[1:, :4])
    assert all(isinstance(layer, NarrowEncoderLayer) for layer in path.encoder.layers)


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_narrow_attention_with_all_heads_is_torchs(wanted, batched):
    torch.manual_seed(0)
    torchs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    weights = Projections(
        torchs.in_proj_weight, torchs.in_proj_bias, torchs.out_proj.weight, torchs.out_proj.bias
    )
    ours = NarrowAttention(weights, 4, 0.0, batch_first=True).eval()
    q, k, v = torch.randn(3, 3, 5, 16)
    mask, padding = torch.ones(5, 5).triu(1).bool(), torch.zeros(3, 5).bool()
    padding[0, 3:] = True
    if not batched:
        q, k, v, padding = q[0], k[0], v[0], padding[0]
    given = {"key_padding_mask": padding, "attn_mask": mask, "need_weights": wanted}
    for average in (True, False):
        out, shares = ours(q, k, v, average_attn_weights=average, **given)
        expected, theirs = torchs(q, k, v, average_attn_weights=average, **given)
        torch.testing.assert_close(out, expected)
        assert (shares is None) == (not wanted)
        if wanted:
            torch.testing.assert_close(shares, theirs)


def test_masks_of_single_heads_are_refused_where_heads_are_left_out():
    weights = Projections(torch.randn(12, 8), None, torch.randn(8, 4), None)
    attention = NarrowAttention(weights, 2, 0.0, batch_first=True)
    x = torch.randn(1, 3, 8)
    with pytest.raises(BadInput, match="attn_mask must have two axes"):
        attention(x, x, x, attn_mask=torch.zeros(2, 3, 3))


# --- importance -----------------------------------------------------------------------------------


def test_importance_by_weights_is_the_product_of_norms():
    written, read = (
        nn.Parameter(torch.tensor([[1.0, -1.0], [2.0, 2.0]])),
        nn.Parameter(torch.tensor([[3.0, -0.5]])),
    )
    scores = by_weights(Units(2, [Part(written)], [Part(read, 1)]))
    torch.testing.assert_close(scores, torch.tensor([3.0, 1.0]))


def test_importance_by_loss_is_the_first_order_change_of_leaving_a_unit_out():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = torch.randn(20, 3), torch.randint(0, 2, (20,))
    gates = torch.ones(4, requires_grad=True)
    F.cross_entropy(model[2](model[1](model[0](x)) * gates), y).backward()
    (scores,) = by_loss(
        [Units(4, [Part(model[0].weight)], [Part(model[2].weight, 1)])],
        model,
        lambda: F.cross_entropy(model(x), y),
    )
    torch.testing.assert_close(scores, gates.grad.square())


def test_a_batch_orders_units_by_their_effect():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 50.0 * model[0].weight[1], -1e6  # large, and never active
    x, y = torch.randn(64, 3), torch.randint(0, 2, (64,))
    by = {batch: nas.elastic(model, x[:1], batch=(x, y) if batch else None) for batch in (False, True)}
    orders = {batch: space.elastic()[0].outputs.tolist() for batch, space in by.items()}
    assert orders[False][0] == 1
    assert orders[True][-1] == 1


# --- what stays rigid, and what is refused --------------------------------------------------------


def test_what_stays_rigid_is_said_with_its_reason():
    rigid = SPACES["residual"].rigid
    assert rigid["2.0.second"] == "its channels run along a residual connection"
    assert rigid["5"] == "its channels are the output"
    assert "cannot be traced" in SPACES["fused"].rigid["the model"]
    text = str(SPACES["residual"])
    assert "  2.0.first: 1 | 2 | 3 | 4" in text.split("rigid")[0]
    assert "  5: its channels are the output" in text.split("rigid")[1]


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (
            lambda shared: nn.Sequential(
                nn.Linear(64, 8), nn.ReLU(), shared, nn.ReLU(), shared, nn.Linear(8, 3)
            ),
            "0",
            "several times",
        ),
        (
            lambda _: nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 3)),
            "0",
            "1 .LayerNorm. mixes them",
        ),
        (
            lambda _: nn.Sequential(nn.Linear(64, 8), nn.Softmax(1), nn.Linear(8, 3)),
            "0",
            "2|1 .Softmax. mixes them",
        ),
    ],
)
def test_layers_that_share_or_mix_stay_rigid(make, name, reason):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), make(nn.Linear(8, 8)))
    space = nas.elastic(model, X[:1])
    assert [leaf.name for leaf in space.leaves] == ["1"]
    import re

    assert re.search(reason, space.rigid[f"3.{name}"])


def test_layers_that_run_several_times_stay_rigid():
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
            self.layers, self.attention = nn.ModuleList([layer, layer]), Fused(8, 2, causal=False)
            self.mlp = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.mlp(self.attention(self.attention(x)))

    space = nas.elastic(Again().eval(), torch.randn(1, 5, 8), depth=0)
    assert list(space.by_name) == ["mlp.0"]
    for name in ("layers.0.linear1", "layers.0.self_attn"):
        assert "several times" in space.rigid[name]


def test_what_fails_when_it_is_narrow_stays_rigid():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 8), nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x):
            y = F.relu(self.a(x.flatten(1)))
            torch._assert(y.shape[-1] == 8, "eight features are wanted")
            return self.c(F.relu(self.b(y)))

    space = nas.elastic(Counts(), X[:1])
    assert list(space.by_name) == ["b"]
    assert "does not run without it (AssertionError: eight features" in space.rigid["a"]


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Linear(8, 3), {}, "model must have hidden widths"),
        (nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2)), {}, "0: 1 .LayerNorm. mixes them"),
        (nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), {"widths": (0.5, 1.5)}, r"widths must be shares"),
        (nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), {"widths": ()}, r"widths must be shares"),
        (nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), {"depth": -1}, "depth must be a whole number"),
        (
            nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)),
            {"widths": (1.0,)},
            "model must have hidden widths",
        ),
    ],
)
def test_what_cannot_be_elastic_is_refused(model, settings, message):
    with pytest.raises(BadInput, match=message):
        nas.elastic(model, torch.randn(1, 8), **settings)


def test_a_single_layer_can_be_elastic():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    space = nas.elastic(layer, x[:1])
    assert sorted(space.by_name) == ["0.linear1", "0.self_attn.heads"]
    with torch.no_grad():
        assert torch.equal(space.supernet().eval()(x, space.full), layer(x))


# --- processes ------------------------------------------------------------------------------------

_SIGNATURE = """
import nas, torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
space = nas.elastic(model, torch.zeros(1, 8))
print(space.signature, space.supernet().signature)
"""


def test_signatures_are_the_same_in_every_process():
    said = {
        subprocess.run(
            [sys.executable, "-c", _SIGNATURE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(said.pop().split()) == 2


@NAMED
def test_weights_and_orders_come_back_from_a_checkpoint(name):
    space = SPACES[name]
    supernet = space.supernet().eval()
    file = io.BytesIO()
    torch.save(supernet.state_dict(), file)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = nas.elastic(MODELS[name]().eval(), X[:1], depth=1)
    assert other.signature == space.signature
    again = other.supernet().eval()
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
    for a in some(space, 3):
        with torch.no_grad():
            assert torch.equal(again(X, a), supernet(X, a))
