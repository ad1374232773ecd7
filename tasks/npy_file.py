"""Arrays of .npy files from anywhere: numpy alone would give a header of 60 bytes whatever memory it asks for."""

from __future__ import annotations

import io
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(file: BinaryIO, name: str) -> NDArray[Any]:
    """The array of a whole .npy file. Raises ValueError, with the name, for any other bytes and for objects."""
    try:
        _check_size(file)
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except (
        Exception
    ) as error:  # numpy raises whatever the header leads it to: SyntaxError, TokenError, MemoryError, ...
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} is no whole array of numbers ({reason}); write it again with numpy.save") from error
    return array


def _check_size(file: BinaryIO) -> None:
    """Raise ValueError unless as many bytes follow the header as its shape needs."""
    version = npy.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"its format is {version}; expected (1, 0) or (2, 0)")
    shape, _, kind = _READERS[version](file)
    if kind.hasobject:
        raise ValueError("it holds Python objects, which would be unpickled; expected numbers")
    needed, there = math.prod(shape) * kind.itemsize, -file.tell() + file.seek(0, io.SEEK_END)
    if min(shape, default=0) < 0 or needed != there:
        raise ValueError(f"its shape {shape} of {kind} needs {needed} bytes, and {there} follow the header")
