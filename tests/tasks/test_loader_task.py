from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from nas.errors import BadInput
from nas.task import Task


def tensors(n: int = 50, classes: int = 3) -> TensorDataset:
    x = torch.arange(2.0 * n).reshape(n, 2)
    return TensorDataset(x, torch.arange(n) % classes)


def loaders(n: int = 50, **settings):
    data = tensors(n)
    return DataLoader(data, batch_size=8, shuffle=True, **settings), DataLoader(data, batch_size=16)


def order(task: Task, **settings) -> list[float]:
    return torch.cat([x[:, 0] for x, _ in task.batches("train", **settings)]).tolist()


def test_shuffled_loaders_are_rebuilt_with_a_seed_of_their_own():
    task = Task.from_loaders(*loaders())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = order(task, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    assert order(task, seed=1) == first
    assert order(task, seed=2) != first
    assert sorted(first) == [2.0 * i for i in range(50)]
    assert task.repeatable


def test_what_is_read_off_the_loaders():
    task = Task.from_loaders(*loaders())
    assert (task.classes, task.input_shape, task.batch_size) == (3, (2,), 8)
    assert task.metrics == ("accuracy", "loss")
    assert (task.count("train"), task.count("val")) == (50, 50)
    with pytest.raises(BadInput, match="the test loader must be given"):
        task.count("test")


def test_sequential_training_loaders_keep_their_order():
    data = tensors()
    task = Task.from_loaders(DataLoader(data, batch_size=8), DataLoader(data, batch_size=8))
    assert order(task, seed=1) == order(task, seed=2) == [2.0 * i for i in range(50)]


def test_samples_and_batch_size_of_rebuilt_loaders():
    task = Task.from_loaders(*loaders())
    assert sorted(order(task, seed=0, samples=[4, 2, 9])) == [4.0, 8.0, 18.0]
    assert [len(y) for _, y in task.batches("train", seed=0, batch_size=20)] == [20, 20, 10]


def test_the_collate_function_and_the_dropped_rest_are_kept():
    def collate(items):
        return torch.stack([x for x, _ in items]) + 0.5, torch.tensor([int(y) for _, y in items])

    train, val = loaders(collate_fn=collate, drop_last=True)
    task = Task.from_loaders(train, val)
    values = order(task, seed=0)
    assert len(values) == task.count("train") == 48
    assert all(v % 1 == 0.5 for v in values)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(2), i % 2) for i in range(10)])


def test_loaders_that_cannot_be_rebuilt_are_not_repeatable():
    task = Task.from_loaders(DataLoader(Stream(), batch_size=4), DataLoader(Stream(), batch_size=4))
    assert not task.repeatable
    assert task.count("train") == 10
    assert len(list(task.batches("train", seed=0))) == 3
    with pytest.raises(BadInput, match="be a DataLoader over a map-style dataset"):
        list(task.batches("train", seed=0, samples=[1]))


def test_a_list_of_batches_repeats():
    batches = [(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))] * 3
    task = Task.from_loaders(batches, batches)
    assert task.repeatable
    assert task.count("val") == 12
    assert task.example(6).shape == (6, 2)


@pytest.mark.parametrize("loader", [iter([1]), (i for i in range(3)), 7])
def test_iterators_are_refused(loader):
    with pytest.raises(BadInput, match="the train loader must give batches on every pass"):
        Task.from_loaders(loader, loaders()[1])


def test_empty_loaders_are_refused():
    with pytest.raises(BadInput, match="the val loader must hold at least one batch"):
        Task.from_loaders(loaders()[0], [])


class Once:
    """Iterable in form, yet good for one pass."""

    def __init__(self) -> None:
        self.left = iter([(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))] * 2)

    def __iter__(self):
        return self.left


def test_a_loader_that_runs_dry_says_so():
    task = Task.from_loaders(Once(), loaders()[1])
    with pytest.raises(BadInput, match="the train loader must give batches on every pass"):
        list(task.batches("train", seed=0))


def test_default_scores_of_classes():
    task = Task.from_loaders(*loaders())
    model = nn.Linear(2, 3)
    nn.init.zeros_(model.weight)
    model.bias.data = torch.tensor([1.0, 0.0, 0.0])
    score = task.score(model, "val")
    log_p = torch.log_softmax(model.bias.detach().double(), 0)
    assert score["accuracy"] == 17 / 50
    assert score["loss"] == pytest.approx(-float(log_p[torch.arange(50) % 3].mean()), rel=1e-6)


def regression():
    data = TensorDataset(torch.arange(20.0).reshape(20, 1), torch.arange(20.0).reshape(20, 1))
    return DataLoader(data, batch_size=6), DataLoader(data, batch_size=6)


def test_regression_needs_a_loss_and_gives_it_by_sample():
    with pytest.raises(BadInput, match="loss must be given"):
        Task.from_loaders(*regression())
    given = nn.MSELoss()
    task = Task.from_loaders(*regression(), loss=given)
    assert given.reduction == "mean"
    assert (task.classes, task.metrics) == (None, ("loss",))
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    assert task.score(model, "val") == {"loss": pytest.approx(sum(i * i for i in range(20)) / 20)}
    batch = next(task.batches("val", seed=0))
    assert torch.equal(task.loss(model(batch[0]), batch), torch.arange(6.0) ** 2)


def test_a_scalar_loss_counts_for_each_sample():
    task = Task.from_loaders(*regression(), loss=lambda output, target: (output - target).abs().mean())
    batch = next(task.batches("val", seed=0))
    assert torch.equal(task.loss(torch.zeros(6, 1), batch), torch.full((6,), 2.5))


def test_a_users_score_is_named_and_joined_by_the_loss():
    def score(model, loader):
        assert not model.training
        passes = [sum(len(y) for _, y in loader) for _ in range(2)]
        return {"seen": passes[1], "more": 1.0}

    task = Task.from_loaders(*loaders(), score=score, metrics=("seen",))
    assert task.metrics == ("seen", "loss")
    values = task.score(nn.Linear(2, 3), "val")
    assert set(values) == {"seen", "loss"}
    assert values["seen"] == 50
    number = Task.from_loaders(*loaders(), score=lambda *_: 0.25)
    assert number.score(nn.Linear(2, 3), "val")["score"] == 0.25
    missing = Task.from_loaders(*loaders(), score=score, metrics=("f1",))
    with pytest.raises(BadInput, match="score must return 'f1'"):
        missing.score(nn.Linear(2, 3), "val")


class Records(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"x": torch.full((2,), float(i)), "mask": torch.ones(2), "y": i % 4}


def test_dict_batches_need_functions():
    make = lambda: DataLoader(Records(), batch_size=4)  # noqa: E731
    with pytest.raises(BadInput, match=r"a batch must be \(inputs, targets\), got 'dict'"):
        Task.from_loaders(make(), make())
    task = Task.from_loaders(
        make(),
        make(),
        forward=lambda model, batch: model(batch["x"] * batch["mask"]),
        inputs=lambda batch: batch["x"],
        targets=lambda batch: batch["y"],
    )
    assert (task.classes, task.input_shape) == (4, (2,))
    assert 0.0 <= task.score(nn.Linear(2, 4), "val")["accuracy"] <= 1.0
    assert task.example(2).tolist() == [[0.0, 0.0], [1.0, 1.0]]
