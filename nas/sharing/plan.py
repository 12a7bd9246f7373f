"""What of a trained network can be elastic, and the layers that make it so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from nas.sharing.channels import Channels, Reader, channels_of, is_residual, traced
from nas.sharing.fused_attention import Fused, PrunedFused, recognised
from nas.sharing.importance import Part, Units
from nas.sharing.pruned import DEPTHWISE, MAPS, NORMS, PrunedMap, Skippable, recast
from nas.sharing.pruned_attention import PrunedAttention, PrunedEncoderLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVERAL = "its weights are used several times, or not at all"
HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
TRANSFORMERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


class Width(ABC):
    """Units that can be left out.

    Attributes:
        name: of the decision.
        place: name of a module that runs only where the decision matters.
        units: and the weights by which they are ordered.
    """

    name: str
    place: str
    units: Units

    @abstractmethod
    def apply(self, network: nn.Module, order: Tensor) -> None:
        """Let the layers of a copy of the network follow the decision."""


@final
class Hidden(Width):
    """Channels or features between layers that write and read them."""

    def __init__(self, network: nn.Module, channels: Channels) -> None:
        self.channels = channels
        self.name = self.place = channels.writers[0]
        get = network.get_submodule
        followers = [get(name) for name in channels.followers]
        norms = [m for m in followers if type(m) in NORMS and m.weight is not None]
        written = [Part(m.weight) for m in norms] or [Part(get(w).weight) for w in channels.writers]  # type: ignore[arg-type]
        read = [Part(get(r.name).weight, 1) for r in channels.readers]  # type: ignore[arg-type]
        self.units = Units(channels.units, written, read)

    def apply(self, network: nn.Module, order: Tensor) -> None:
        """Writers choose, followers and readers do as they are given."""
        for name in self.channels.writers:
            layer = _map(network, name)
            layer.out, layer.outputs = self.name, order
        for reader in self.channels.readers:
            layer = _map(network, reader.name)
            layer.inputs, layer.block = order, reader.block
        for name in self.channels.followers:
            module = network.get_submodule(name)
            kinds = NORMS if type(module) in NORMS else DEPTHWISE
            follower: Any = recast(kinds[type(module)], module)
            follower.follow(order)
            put(network, name, follower)


@final
class Heads(Width):
    """Heads of ``nn.MultiheadAttention``."""

    def __init__(self, network: nn.Module, name: str) -> None:
        self._module = name
        self.name, self.place = f"{name}.heads" if name else "heads", f"{name}."
        m: Any = network.get_submodule(name)
        step = m.embed_dim
        written = [Part(m.in_proj_weight, 0, slice(i * step, (i + 1) * step)) for i in range(3)]
        self.units = Units(m.num_heads, written, [Part(m.out_proj.weight, 1)])

    def apply(self, network: nn.Module, order: Tensor) -> None:
        """The attention chooses."""
        attention = recast(PrunedAttention, network.get_submodule(self._module))
        attention.follow(self.name, order)
        put(network, self._module, attention)


@final
class FusedHeads(Width):
    """Heads of a model's own attention with one map for queries, keys and values."""

    def __init__(self, network: nn.Module, name: str, found: Fused) -> None:
        self._module, self._found = name, found
        self.name, self.place = f"{name}.heads", f"{name}."
        attention = network.get_submodule(name)
        inside: Any = attention.get_submodule(found.inside)
        out: Any = attention.get_submodule(found.out)
        step = len(inside.weight) // 3
        written = [Part(inside.weight, 0, slice(i * step, (i + 1) * step)) for i in range(3)]
        self.units = Units(found.heads, written, [Part(out.weight, 1)])

    def apply(self, network: nn.Module, order: Tensor) -> None:
        """The attention chooses."""
        attention = network.get_submodule(self._module)
        put(network, self._module, PrunedFused(attention, self._found, self.name, order))


@final
class Row:
    """Residual blocks one after another, of which the last can be left out.

    Attributes:
        name: of the decision.
        blocks: names of the modules, in order.
        least: blocks that always run.
    """

    def __init__(self, name: str, blocks: list[str], least: int) -> None:
        self.name, self.blocks, self.least = name, blocks, least

    def apply(self, network: nn.Module) -> None:
        """Let the last blocks of a network's copy follow the decision."""
        for i in range(self.least, len(self.blocks)):
            put(network, self.blocks[i], Skippable(network.get_submodule(self.blocks[i]), self.name, i))


def put(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where another one is."""
    parent, _, last = name.rpartition(".")
    holder = network.get_submodule(parent)
    holder._modules[last] = module.train(holder.training)
    if type(holder) is nn.TransformerEncoderLayer:
        layer = recast(PrunedEncoderLayer, holder)
        layer.follow()
        put(network, parent, layer)


def _map(network: nn.Module, name: str) -> PrunedMap:
    module = network.get_submodule(name)
    if isinstance(module, PrunedMap):
        return module
    layer = recast(MAPS[type(module)], module)
    layer.follow()
    put(network, name, layer)
    return layer


# --- finding --------------------------------------------------------------------------------------


class Calls:
    """What every module of a network is called with, and gives, in one call of the network.

    Attributes:
        inputs: positional inputs of a module's first call, by its name; none where there were others.
        firsts, outputs: the first input and the output of the first call.
        counts: calls.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.firsts: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        hooks = [
            module.register_forward_hook(self._noting(name), with_kwargs=True)
            for name, module in network.named_modules()
        ]
        try:
            with torch.no_grad():
                network(example)
        finally:
            for hook in hooks:
                hook.remove()

    def _noting(self, name: str) -> Any:
        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self.counts[name] = self.counts.get(name, 0) + 1
            self.firsts.setdefault(name, args[0] if args else None)
            self.outputs.setdefault(name, output)
            if not any(v is not None and v is not False for v in kwargs.values()):
                self.inputs.setdefault(name, args)

        return note

    def once(self, name: str) -> bool:
        """Whether a module ran exactly once."""
        return self.counts.get(name) == 1

    def keeps_shape(self, name: str) -> bool:
        """Whether a module ran once, and gave a tensor of its first input's shape."""
        values = self.firsts.get(name), self.outputs.get(name)
        tensors = [t for t in values if isinstance(t, Tensor)]
        return self.once(name) and len(tensors) == 2 and tensors[0].shape == tensors[1].shape


def rows_of(network: nn.Module, example: Tensor, least: int) -> list[Row]:
    """Rows of residual blocks in sequences and lists of modules, outer ones first."""
    calls = Calls(network, example)
    found = []
    for name, holder in network.named_modules():
        if not isinstance(holder, nn.Sequential | nn.ModuleList):
            continue
        prefix = f"{name}." if name else ""
        rows: list[list[str]] = [[]]
        for child, block in holder.named_children():
            if calls.keeps_shape(prefix + child) and _residual(block):
                rows[-1].append(prefix + child)
            elif rows[-1]:
                rows.append([])
        rows = [row for row in rows if len(row) > least]
        for i, row in enumerate(rows):
            label = f"{prefix}depth" if len(rows) == 1 else f"{prefix}depth{i}"
            found.append(Row(label, row, least))
    return found


def _residual(block: nn.Module) -> bool:
    if type(block) in TRANSFORMERS:
        return True
    try:
        return is_residual(traced(block))
    except Exception:
        return False


def widths_of(network: nn.Module, example: Tensor, rigid: dict[str, str]) -> list[Width]:
    """Everything whose units can be left out; why the rest cannot is written into ``rigid``."""
    calls, shared = Calls(network, example), _shared(network)
    fused = {
        name: found
        for name, module in network.named_modules()
        if calls.once(name)
        and not {n for n, _ in module.named_modules(prefix=name)} & shared
        and (found := recognised(module, calls.inputs.get(name, ())))
    }
    widths = [*_hidden(network, calls, fused, rigid), *_attention(network, calls, fused, rigid)]
    places = {name: i for i, (name, _) in enumerate(network.named_modules())}
    return sorted(widths, key=lambda w: places[w.place.rstrip(".")])


def _hidden(
    network: nn.Module, calls: Calls, fused: dict[str, Fused], rigid: dict[str, str]
) -> Iterator[Width]:
    shared = _shared(network)
    for channels in _channels("", network, calls, set(fused), rigid):
        names = [*channels.writers, *(r.name for r in channels.readers), *channels.followers]
        again = [n for n in names if not calls.once(n) or n in shared]
        reason = channels.reason or ("" if channels.readers else "nothing reads it")
        if reason or again:
            rigid[channels.writers[0]] = reason or f"{again[0]}: {SEVERAL}"
        else:
            yield Hidden(network, channels)
    for name, module in network.named_modules():
        if type(module) in TRANSFORMERS:
            hidden: Any = module.linear1
            channels = Channels(hidden.out_features, ["linear1"], [Reader("linear2", 1)])
            if calls.once(name) and not {f"{name}.linear1", f"{name}.linear2"} & shared:
                yield Hidden(network, channels.within(f"{name}."))
            else:
                rigid[f"{name}.linear1"] = SEVERAL


def _channels(
    name: str, module: nn.Module, calls: Calls, whole: set[str], rigid: dict[str, str]
) -> Iterator[Channels]:
    """Channels of a module; of its parts where it cannot be traced itself."""
    prefix = f"{name}." if name else ""
    inner = [n.removeprefix(prefix) for n in whole if n.startswith(prefix)]
    try:
        yield from [c.within(prefix) for c in channels_of(traced(module, inner), calls.inputs[name])]
    except Exception as error:
        if type(module).__module__.startswith("torch.nn") and not isinstance(module, HOLDERS):
            return
        if type(module) not in HOLDERS and calls.counts.get(name):
            reason = f"cannot be traced as a whole ({type(error).__name__}); its parts are looked at"
            rigid[name or "the model"] = reason
        for child, part in module.named_children():
            if prefix + child not in whole:
                yield from _channels(prefix + child, part, calls, whole, rigid)


def _attention(
    network: nn.Module, calls: Calls, fused: dict[str, Fused], rigid: dict[str, str]
) -> Iterator[Width]:
    shared = _shared(network)
    for name, module in network.named_modules():
        if name in fused:
            yield FusedHeads(network, name, fused[name])
        elif type(module) is nn.MultiheadAttention:
            if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
                rigid[name] = "its keys have sizes or entries of their own"
            elif not calls.once(name) or name in shared:
                rigid[name] = SEVERAL
            else:
                yield Heads(network, name)


def _shared(network: nn.Module) -> set[str]:
    """Names of modules whose parameters another module holds too."""
    owners: dict[int, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        for p in module.parameters(recurse=False):
            owners.setdefault(id(p), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
