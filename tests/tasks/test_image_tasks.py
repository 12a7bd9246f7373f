from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nas.errors import BadInput
from nas.rng import stream
from nas.tasks.cifar10 import Cifar10
from nas.tasks.digits import Digits
from nas.tasks.fashion_mnist import FashionMnist

DATA = Path(os.environ.get("NAS_DATA") or Path(__file__).parents[3] / "shared" / "data")


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"no folder {name} in the data folder")
    return DATA / name


class Bias(nn.Module):
    """Gives the same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_digits_are_split_into_disjoint_known_parts():
    task = Digits(seed=3)
    assert [task.count(s) for s in ("train", "val", "test")] == [1150, 288, 359]
    seen = [x.numpy().tobytes() for s in ("train", "val", "test") for x in task._splits[s][0]]
    raw = [x.astype(np.uint8).tobytes() for x in Digits(seed=9)._splits["test"][0].numpy()]
    assert len(seen) == 1797
    assert sorted(seen[-359:]) == sorted(raw)
    labels = task._splits["test"][1].bincount()
    assert labels.min() >= 34
    assert labels.max() <= 37


def test_digits_validation_depends_on_the_seed():
    assert Digits(seed=0).fingerprint() == Digits(seed=0).fingerprint()
    assert Digits(seed=0).fingerprint() != Digits(seed=1).fingerprint()
    assert Digits(limit=100).fingerprint() != Digits(limit=101).fingerprint()


def test_inputs_are_normalised_by_the_training_images():
    task = Digits()
    x = torch.cat([x for x, _ in task.batches("train", seed=0)])
    assert x.dtype == torch.float32
    assert x.shape == (1150, 1, 8, 8)
    assert task.input_shape == (1, 8, 8)
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_training_order_follows_the_seed_and_leaves_global_generators_alone():
    task = Digits()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    orders = [torch.cat([y for _, y in task.batches("train", seed=s)]) for s in (1, 1, 2)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].bincount(), orders[2].bincount())
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_other_splits_keep_their_order():
    task = Digits()
    y = torch.cat([y for _, y in task.batches("val", seed=5, batch_size=100)])
    assert torch.equal(y, task._splits["val"][1])


def test_samples_and_batch_sizes():
    task = Digits()
    (batch,) = task.batches("val", seed=0, samples=[3, 1, 7])
    assert torch.equal(batch[1], task._splits["val"][1][[3, 1, 7]])
    sizes = [len(y) for _, y in task.batches("train", seed=0, samples=range(9), batch_size=4)]
    assert sizes == [4, 5]  # batch norm cannot train on one image alone
    assert [len(y) for _, y in task.batches("val", seed=0, samples=range(9), batch_size=4)] == [4, 4, 1]
    with pytest.raises(BadInput, match="samples must be positions from 0 to 287"):
        next(task.batches("val", seed=0, samples=[288]))


def test_score_is_accuracy_and_mean_cross_entropy():
    task = Digits()
    logits = [0.0] * 9 + [1.0]
    y = task._splits["val"][1]
    score = task.score(Bias(logits), "val")
    log_p = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), 0)
    assert score["accuracy"] == int((y == 9).sum()) / 288
    assert score["loss"] == pytest.approx(-float(log_p[y].mean()), rel=1e-6)


def test_scoring_is_in_evaluation_mode_and_restores_each_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(64), nn.Linear(64, 10)).train()
    model[2].eval()
    task = Digits()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert task.score(model, "val") == task.score(model, "val")
    assert [m.training for m in model] == [True, True, False, True]
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_examples_repeat_where_there_are_too_few():
    task = Digits(limit=10)
    assert task.count("train") == 8
    x = task.example(20)
    assert x.shape == (20, 1, 8, 8)
    assert torch.equal(x[:8], x[8:16])


@pytest.mark.parametrize(
    "setting",
    [{"val_share": 0.0}, {"val_share": 1.0}, {"limit": 1}, {"batch_size": 0}, {"limit": 2, "val_share": 0.1}],
)
def test_settings_out_of_range(setting):
    with pytest.raises(BadInput, match="must"):
        Digits(**setting)


# --- Fashion-MNIST -------------------------------------------------------------------------------


def write_idx(folder: Path, n_train: int = 20, n_test: int = 5, *, packed: bool = False) -> None:
    rng = stream(0, "idx")
    for prefix, n in (("train", n_train), ("t10k", n_test)):
        x = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        y = rng.integers(0, 10, n, dtype=np.uint8)
        files = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">IIII", 0x803, n, 28, 28) + x.tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">II", 0x801, n) + y.tobytes(),
        }
        for name, content in files.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def test_idx_files_plain_and_packed_are_the_same(tmp_path):
    for name in ("plain", "packed"):
        (tmp_path / name).mkdir()
        write_idx(tmp_path / name, packed=name == "packed")
    plain, packed = (FashionMnist(tmp_path / name) for name in ("plain", "packed"))
    assert plain.fingerprint() == packed.fingerprint()
    assert [plain.count(s) for s in ("train", "val", "test")] == [18, 2, 5]
    raw = (tmp_path / "plain" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert plain._splits["test"][0].numpy().tobytes() == raw


def test_a_lower_resolution_is_the_mean_of_blocks(tmp_path):
    write_idx(tmp_path)
    whole, half = (FashionMnist(tmp_path, resolution=side) for side in (28, 14))
    assert whole.fingerprint() == FashionMnist(tmp_path).fingerprint()
    for split in ("train", "val", "test"):
        (x, y), (small, same) = whole._splits[split], half._splits[split]
        means = nn.functional.avg_pool2d(x.double(), 2)
        assert torch.equal(small.double(), means.round())
        assert torch.equal(y, same)
    assert half.input_shape == (1, 14, 14)
    for side in (0, 3, 56):
        with pytest.raises(BadInput, match="resolution must divide 28"):
            FashionMnist(tmp_path, resolution=side)


def test_the_folder_is_found_by_the_environment(tmp_path, monkeypatch):
    (tmp_path / "fashion_mnist").mkdir()
    write_idx(tmp_path / "fashion_mnist")
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    assert FashionMnist().count("test") == 5
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="train-images-idx3-ubyte"):
        FashionMnist()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda f: f.unlink(), "must hold t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "t10k-images-idx3-ubyte must hold 3,920 bytes"),
        (lambda f: f.write_bytes(b"\x00\x00\x0d\x03" + f.read_bytes()[4:]), "be an idx file of bytes"),
        (lambda f: f.write_bytes(b""), "be an idx file of bytes"),
        (
            lambda f: f.write_bytes(struct.pack(">IIII", 0x803, 4, 28, 28) + bytes(4 * 784)),
            "a label for each",
        ),
        (
            lambda f: f.write_bytes(struct.pack(">IIII", 0x803, 5, 32, 32) + bytes(5 * 1024)),
            "t10k images must have 28 by 28 pixels",
        ),
    ],
)
def test_broken_idx_files_are_named(tmp_path, fault, message):
    write_idx(tmp_path)
    fault(tmp_path / "t10k-images-idx3-ubyte")
    with pytest.raises(BadInput, match=message):
        FashionMnist(tmp_path)


def test_a_truncated_gzip_file_is_named(tmp_path):
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte\.gz must be a whole gzip file"):
        FashionMnist(tmp_path)


def test_real_fashion_mnist():
    task = FashionMnist(real("fashion_mnist"), limit=500)
    assert [task.count(s) for s in ("train", "val", "test")] == [450, 50, 10_000]
    assert task._splits["test"][1].bincount().tolist() == [1000] * 10
    assert task.example(3).shape == (3, 1, 28, 28)


# --- CIFAR-10 ------------------------------------------------------------------------------------


def write_batches(folder: Path, n: int = 4) -> np.ndarray:
    rng = stream(0, "cifar")
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    data = rng.integers(0, 256, (len(names), n, 3072), dtype=np.uint8)
    for name, x in zip(names, data, strict=True):
        content = {b"batch_label": b"x", b"labels": [i % 10 for i in range(n)], b"data": x}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return data


def test_python_batches(tmp_path):
    data = write_batches(tmp_path)
    task = Cifar10(tmp_path, val_share=0.25)
    assert [task.count(s) for s in ("train", "val", "test")] == [15, 5, 4]
    assert task.input_shape == (3, 32, 32)
    assert np.array_equal(task._splits["test"][0].numpy().reshape(4, 3072), data[-1])
    ours = {x.tobytes() for s in ("train", "val") for x in task._splits[s][0].numpy()}
    assert ours == {x.tobytes() for x in data[:-1].reshape(-1, 3072)}


class Malicious:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Malicious()), "mkdir is not allowed"),
        (pickle.dumps({b"labels": [1]}), "Python batch of CIFAR-10"),
        (pickle.dumps({b"labels": [1], b"data": np.zeros((1, 7), np.uint8)}, protocol=2), "shape"),
        (pickle.dumps({b"labels": [11], b"data": np.zeros((1, 3072), np.uint8)}, protocol=2), "labels in"),
        (b"", "Python batch of CIFAR-10"),
        (None, "hold data_batch_1 to"),
    ],
)
def test_broken_python_batches_are_refused_and_run_nothing(tmp_path, monkeypatch, content, message):
    write_batches(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").unlink()
    if content is not None:
        (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        Cifar10(tmp_path)
    assert not (tmp_path / "ran").exists()


def write_packed(folder: Path, n: int = 6) -> None:
    for split in ("train", "test"):
        files = []
        for i in range(n):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (40 * i, 0, 255 - 40 * i)).save(buffer, "JPEG", quality=95)
            files.append(buffer.getvalue())
        offsets = np.cumsum([0, *map(len, files)])
        jpeg = np.frombuffer(b"".join(files), np.uint8)
        labels = np.arange(n, dtype=np.uint8)
        np.savez(folder / f"cifar10_{split}_jpeg.npz", jpeg=jpeg, offsets=offsets, labels=labels)


def test_packed_jpeg_images_keep_their_labels_and_channels(tmp_path):
    write_packed(tmp_path)
    task = Cifar10(tmp_path, val_share=0.5)
    for split in ("train", "val", "test"):
        x, y = task._splits[split]
        red, green, blue = x.float().mean((2, 3)).T
        assert torch.allclose(red, 40.0 * y, atol=6)
        assert float(green.max()) < 6
        assert torch.allclose(blue, 255 - 40.0 * y, atol=6)


def test_broken_packed_files_are_named(tmp_path):
    write_packed(tmp_path)
    path = tmp_path / "cifar10_test_jpeg.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"cifar10_test_jpeg\.npz must be an npz file"):
        Cifar10(tmp_path)
    np.savez(path, jpeg=np.zeros(30, np.uint8), offsets=np.array([0, 30]), labels=np.zeros(1, np.uint8))
    with pytest.raises(BadInput, match=r"cifar10_test_jpeg\.npz must hold whole JPEG images"):
        Cifar10(tmp_path)
    path.unlink()
    with pytest.raises(BadInput, match="hold data_batch_1 to"):
        Cifar10(tmp_path)


def test_real_cifar10_has_its_known_mean():
    folder = real("cifar10_jpeg")
    task = Cifar10(folder, limit=1500)
    assert [task.count(s) for s in ("train", "val", "test")] == [1350, 150, 10_000]
    assert np.allclose(task._mean.flatten() / 255, (0.4914, 0.4822, 0.4465), atol=0.02)
