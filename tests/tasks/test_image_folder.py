"""Folders of images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nas.errors import BadInput
from nas.rng import stream
from nas.tasks.image_folder import ImageFolder


def paint(path, value, size=(6, 6), mode="RGB"):
    """One image whose every byte is ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(path)


def fill(root, counts, offset=0):
    """Images of a class of their own brightness: 10·class + position."""
    for label, (name, n) in enumerate(sorted(counts.items())):
        for i in range(n):
            paint(root / name / f"{i:03d}.png", offset + 100 * label + i)


def bytes_of(task, split):
    """First byte and label of every image, sorted."""
    x, y = task._splits[split]
    return sorted(zip(x[:, 0, 0, 0].tolist(), y.tolist(), strict=True))


def test_the_given_splits_are_kept_and_labelled_by_folder(tmp_path):
    for split, offset in (("train", 0), ("val", 20), ("test", 40)):
        fill(tmp_path / split, {"b_dog": 5, "a_cat": 4}, offset)
    task = ImageFolder(tmp_path)
    assert (task.class_names, task.classes, task.input_shape) == (("a_cat", "b_dog"), 2, (3, 6, 6))
    for split, offset in (("train", 0), ("val", 20), ("test", 40)):
        expected = [(offset + i, 0) for i in range(4)] + [(offset + 100 + i, 1) for i in range(5)]
        assert bytes_of(task, split) == expected


def test_without_val_a_share_of_training_is_validation_by_the_seed(tmp_path):
    fill(tmp_path / "train", {"a": 10, "b": 10})
    first, second = (ImageFolder(tmp_path, val_share=0.25, seed=seed) for seed in (0, 1))
    assert [first.count(s) for s in ("train", "val")] == [15, 5]
    assert bytes_of(first, "val") != bytes_of(second, "val")
    together = sorted(bytes_of(first, "train") + bytes_of(first, "val"))
    assert together == [(i, 0) for i in range(10)] + [(100 + i, 1) for i in range(10)]


def test_a_missing_test_split_is_an_error_only_when_asked_for(tmp_path):
    fill(tmp_path / "train", {"a": 4, "b": 4})
    task = ImageFolder(tmp_path, val_share=0.25)
    assert len(task.fingerprint()) == 32
    for ask in (lambda: task.count("test"), lambda: next(task.batches("test", seed=0))):
        with pytest.raises(BadInput, match="the test split must have images, got 'none'; add a folder test/"):
            ask()


def test_class_folders_alone_are_split_the_same_way_for_every_seed(tmp_path):
    fill(tmp_path, {"a": 10, "b": 20})
    tasks = [ImageFolder(tmp_path, test_share=0.2, seed=seed) for seed in (0, 1)]
    assert bytes_of(tasks[0], "test") == bytes_of(tasks[1], "test")
    assert [y for _, y in bytes_of(tasks[0], "test")] == [0] * 2 + [1] * 4
    parts = [set(bytes_of(tasks[0], split)) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    without = ImageFolder(tmp_path, test_share=0.0)
    assert without.count("train") + without.count("val") == 30


def test_size_and_channels(tmp_path):
    rng = stream(0, "pixels")
    for i, name in enumerate(("a", "b")):
        for j, size in enumerate([(8, 4), (5, 5), (9, 20)]):
            path = tmp_path / "train" / name / f"{j}.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
            Image.fromarray(pixels[..., : 4 - i]).save(path)
    grey = ImageFolder(tmp_path, size=5, channels=1, val_share=0.3)
    assert (grey.input_shape, grey.count("train") + grey.count("val")) == ((1, 5, 5), 6)
    assert ImageFolder(tmp_path, size=3, val_share=0.3).input_shape == (3, 3, 3)
    with pytest.raises(BadInput, match=r"must have \d+ x \d+ pixels like the first image, got .*; set size:"):
        ImageFolder(tmp_path, val_share=0.3)


def test_the_middle_of_a_wide_image_is_kept(tmp_path):
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = 200
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{i}.png")
    x, _ = ImageFolder(tmp_path, size=4, channels=1, val_share=0.5)._splits["train"]
    assert (x == 200).all()


def test_only_chosen_images_are_read(tmp_path):
    fill(tmp_path / "train", {"a": 20, "b": 20})
    for i in range(20, 40):
        (tmp_path / "train" / "a" / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match="must be a whole image"):
        ImageFolder(tmp_path)
    seed = next(
        s for s in range(100) if not any(20 <= i < 40 for i in stream(s, "split").permutation(60)[:4])
    )
    task = ImageFolder(tmp_path, limit=4, val_share=0.5, seed=seed)
    assert [task.count(s) for s in ("train", "val")] == [2, 2]


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
def test_unreadable_files_are_named(tmp_path, content):
    fill(tmp_path / "train", {"a": 3, "b": 3})
    bad = tmp_path / "train" / "b" / "bad.png"
    paint(bad, 7, size=(40, 40))
    bad.write_bytes(bad.read_bytes()[:-40] if content == "cut" else content)
    with pytest.raises(BadInput, match=r"train/b/bad\.png must be a whole image"):
        ImageFolder(tmp_path, size=6)


def test_other_files_are_passed_over(tmp_path):
    fill(tmp_path / "train", {"a": 2, "b": 2})
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "a" / "._000.png").write_bytes(b"resource fork")
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    paint(tmp_path / "train" / "a" / "deeper" / "x.png", 50)
    task = ImageFolder(tmp_path, val_share=0.2)
    assert task.classes == 2
    assert task.count("train") + task.count("val") == 5


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        ({"a": 2, "b": 2}, {"channels": 2}, "channels must be 1"),
        ({"a": 2, "b": 2}, {"size": 0}, "size must be at least 1 pixel"),
        ({"a": 2, "b": 2}, {"test_share": 1.0}, "test_share must lie in"),
        ({"a": 2}, {}, "at least two classes, got \\['a'\\]"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, make, settings, words):
    fill(tmp_path, make)
    with pytest.raises(BadInput, match=words):
        ImageFolder(tmp_path, **settings)


def test_empty_and_unknown_classes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="data must be a folder"):
        ImageFolder(tmp_path / "nowhere")
    fill(tmp_path / "train", {"a": 2, "b": 2})
    (tmp_path / "train" / "c").mkdir()
    with pytest.raises(BadInput, match=r"the class folder .*train/c must hold images"):
        ImageFolder(tmp_path)
    (tmp_path / "train" / "c").rmdir()
    fill(tmp_path / "test", {"a": 1, "z": 1})
    with pytest.raises(BadInput, match="the class z of test/ must be in train/, too"):
        ImageFolder(tmp_path, val_share=0.5)
