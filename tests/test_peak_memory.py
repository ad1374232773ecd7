"""Claims about measured memory."""

from functools import partial

import numpy as np
import pytest

from tasks.peak_memory import peak_mib

EIGHT_MIB = 2**20  # float64


def test_peak_is_what_the_work_holds_whatever_this_process_held_before():
    np.ones(32 * EIGHT_MIB)
    peak = peak_mib(partial(np.ones, 8 * EIGHT_MIB), "cpu")
    if peak is None:
        pytest.skip("this system does not tell what a process holds")
    assert peak == pytest.approx(64, abs=4)
