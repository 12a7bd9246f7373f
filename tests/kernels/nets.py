"""Small networks of several families, for capture and fusion."""

from __future__ import annotations

import torch
from torch import nn

from nas.spaces.nasbench201 import NasBench201Space

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|avg_pool_3x3~2|"


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(torch.relu(self.down(self.pool(x)))))


class Inverted(nn.Module):
    def __init__(self, width: int, factor: int, act) -> None:
        super().__init__()
        inner = width * factor
        self.path = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), act(),
            nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), act(),
            SqueezeExcite(inner), nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x):
        return x + self.path(x)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.an = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.b, self.bn = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn(self.b(torch.relu(self.an(self.a(x))))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.after = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.before(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.after(x))


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


def mobile(act=nn.Hardswish):
    stem = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), act()]
    return nn.Sequential(*stem, Inverted(16, 3, act), Inverted(16, 4, act), *head(16)).eval()


def residual(width: int = 32):
    stem = [nn.Conv2d(3, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*stem, Residual(width), Residual(width), *head(width)).eval()


def transformer():
    blocks = [Block(32, 4), Block(32, 4)]
    return nn.Sequential(nn.Linear(12, 32), *blocks, nn.LayerNorm(32), nn.Linear(32, 10)).eval()


def nasbench201(cell: str = CELL):
    space = NasBench201Space(cells=1, channels=16, input_shape=(3, 16, 16))
    return space.build(space.from_string(cell)).eval()


NETS = {
    "mobile": (mobile, (3, 32, 32)),
    "mobile with swish": (lambda: mobile(nn.SiLU), (3, 32, 32)),
    "residual": (residual, (3, 32, 32)),
    "transformer": (transformer, (6, 12)),
    "nasbench201": (nasbench201, (3, 16, 16)),
}
