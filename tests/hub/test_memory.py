"""Freed memory is kept: columns of the next group cost no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ROUNDS = """
import resource, sys
import numpy as np
from hub.memory import keep_freed
if sys.argv[1] == "kept" and not keep_freed():
    print(-1)
    raise SystemExit
def group():
    columns = [np.ones(16_384) for _ in range(40)]
    return np.concatenate(columns).sum()
for _ in range(5):
    group()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    group()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _ROUNDS, how], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


def test_a_group_s_columns_cost_no_page_faults_once_there_was_one_like_it() -> None:
    kept = _faults("kept")
    if kept < 0:
        pytest.skip("the C library is not glibc")
    assert kept < 100
    assert _faults("left alone") > 10 * max(kept, 1)
