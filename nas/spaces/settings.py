"""Settings that several spaces take: whole numbers, lists of widths, and what a network reads and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.errors import must

if TYPE_CHECKING:
    from nas.task import Task


def whole(name: str, value: object, low: int, high: int) -> int:
    """The value, when it is a whole number in ``[low, high]``.

    Raises:
        BadInput: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise must(name, f"be a whole number in [{low}, {high}]", value)
    return value


def widths(name: str, values: object) -> tuple[int, ...]:
    """The values as a tuple, when they are distinct whole numbers of at least 1 in ascending order.

    Raises:
        BadInput: they are not.
    """
    if isinstance(values, Sequence) and not isinstance(values, str) and values:
        checked = tuple(whole(name, value, 1, 65_536) for value in values)
        if list(checked) == sorted(set(checked)):
            return checked
    raise must(name, "list distinct whole numbers in ascending order", values)


def input_shape_of(
    task: Task | None, given: Sequence[int] | None, default: tuple[int, ...]
) -> tuple[int, ...]:
    """Shape of one input without the batch axis: the given one, else the task's, else the default.

    Raises:
        BadInput: the task's inputs have no fixed shape, or an axis is not a whole number of at least 1.
    """
    shape = given if given is not None else default if task is None else task.input_shape
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise must("input_shape", "list the axes of one input", shape, "set input_shape:")
    return tuple(whole("input_shape", axis, 1, 2**31) for axis in shape)


def image_shape_of(
    task: Task | None, given: Sequence[int] | None, default: tuple[int, int, int]
) -> tuple[int, int, int]:
    """The same for images: (channels, height, width).

    Raises:
        BadInput: as for `input_shape_of`, or there are not three axes.
    """
    shape = input_shape_of(task, given, default)
    if len(shape) != 3:
        raise must("input_shape", "be (channels, height, width)", shape, "the space mlp takes any shape")
    channels, height, width = shape
    return channels, height, width


def classes_of(task: Task | None, given: int | None, default: int) -> int:
    """Number of outputs: the given one, else the task's classes, else the default.

    Raises:
        BadInput: the task has no classes, or the number is not whole and at least 1.
    """
    classes = given if given is not None else default if task is None else task.classes
    if classes is None:
        raise must("classes", "be given for a task without classes", None, "set classes: to its outputs")
    return whole("classes", classes, 1, 2**31)
