"""One memory-mapped file of named arrays: a checked header in JSON, then aligned little-endian columns."""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"NASTABLE"
SCHEMA = 1
"""Version of the layout; a file of another one is refused and must be imported again."""

_ALIGN = 64
_DIGEST = 16
_FIXED = len(MAGIC) + 4 + 4 + _DIGEST
_DTYPES = {"<i1", "|i1", "<i2", "<i4", "<f4", "<f8"}
_AGAIN = "import it again with 'nas data import'"


def pack(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a file; equal for equal contents.

    Layout: magic (8 bytes), schema version and header length (two little-endian uint32), BLAKE2b digest of
    all that follows (16 bytes), the header, and the arrays, each at a multiple of 64 bytes from its start.

    Args:
        header: JSON values; ``arrays`` is added to it.
        arrays: by name, of int8, int16, int32, float32 or float64; any shape.
    """
    places: dict[str, Any] = {}
    blocks: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        if data.dtype.str not in _DTYPES:
            raise must(f"column {name}", "be of int8, int16, int32, float32 or float64", str(array.dtype))
        places[name] = {"dtype": data.dtype.str, "shape": list(data.shape), "offset": offset}
        block = data.tobytes()
        blocks.append(block + bytes(-len(block) % _ALIGN))
        offset += len(blocks[-1])
    text = json.dumps({**header, "arrays": places, "bytes": offset}, sort_keys=True).encode()
    text += b" " * (-(_FIXED + len(text)) % _ALIGN)
    body = text + b"".join(blocks)
    sizes = np.array([SCHEMA, len(text)], dtype="<u4").tobytes()
    return MAGIC + sizes + _digest(body) + body


def unpack(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], str]:
    """The header, the arrays mapped from the file, and the checksum (32 hexadecimal digits).

    Raises:
        BadInput: the file is none of this form, of another schema version, cut short, or changed since it
            was written.
    """
    whole: NDArray[Any] = np.memmap(path, dtype=np.uint8, mode="r") if os.path.getsize(path) else np.empty(0)  # noqa: PTH202
    if len(whole) < _FIXED or whole[: len(MAGIC)].tobytes() != MAGIC:
        raise must(str(path), "be a file made by 'nas data import'", "another kind of file")
    version, length = whole[len(MAGIC) : len(MAGIC) + 8].view("<u4").tolist()
    if version != SCHEMA:
        raise must(f"{path}: schema version", f"be {SCHEMA}", version, _AGAIN)
    digest = whole[_FIXED - _DIGEST : _FIXED].tobytes()
    header = _header(path, whole[_FIXED : _FIXED + length].tobytes(), len(whole) - _FIXED - length)
    found = _digest(whole[_FIXED:])
    if found != digest:
        raise must(f"{path}: checksum", f"be {digest.hex()}", found.hex(), f"the file changed; {_AGAIN}")
    start = _FIXED + length
    arrays = {name: _view(whole, start, place) for name, place in header.pop("arrays").items()}
    return header, arrays, digest.hex()


def _header(path: Path, text: bytes, rest: int) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(text)
    except ValueError:
        raise must(f"{path}: header", "be JSON", text[:40], f"the file is damaged; {_AGAIN}") from None
    if rest != header["bytes"]:
        raise must(f"{path}: columns", f"take {header['bytes']:,} bytes", rest, f"it is cut short; {_AGAIN}")
    return header


def _view(whole: NDArray[Any], start: int, place: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(place["dtype"]), tuple(place["shape"])
    first = start + place["offset"]
    seen: NDArray[Any] = (
        whole[first : first + dtype.itemsize * int(np.prod(shape))].view(dtype).reshape(shape)
    )
    return seen


def _digest(data: Any) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
