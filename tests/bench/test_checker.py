"""The benchmark's checker: it counts what is lost, doubled or altered, to the row."""

from __future__ import annotations

import numpy as np
import pytest

from bench._rig.checker import _POSTGRES_EPOCH_US, _ROW, Balance, _compare, _spread
from bench._rig.instrument import BLOCK, values_of

ACCOUNT = np.array([(0, 3, 1_700_000_000_000_000, 10), (3, 2, 1_700_000_000_000_500, 1)], BLOCK)
TIMES_US = _spread(ACCOUNT, ACCOUNT["first_us"], ACCOUNT["step_us"])
RAW = values_of(_spread(ACCOUNT, ACCOUNT["first"], 1), 0)


def rows() -> np.ndarray:
    """What the database holds when all went well."""
    stored = np.zeros(len(TIMES_US), _ROW)
    stored["time"] = TIMES_US - _POSTGRES_EPOCH_US
    stored["raw"], stored["physical"] = RAW, 0.5 * RAW
    return stored


def found(stored: np.ndarray) -> tuple[int, int, int]:
    balance = Balance()
    _compare(balance, TIMES_US, RAW, stored)
    assert (balance.taken, balance.stored) == (len(TIMES_US), len(stored))
    return balance.lost, balance.duplicated, balance.altered


def test_an_account_names_every_timestamp_and_number() -> None:
    assert (TIMES_US - 1_700_000_000_000_000).tolist() == [0, 10, 20, 500, 501]
    assert _spread(ACCOUNT, ACCOUNT["first"], 1).tolist() == [0, 1, 2, 3, 4]


def test_what_is_all_there_balances() -> None:
    assert found(rows()) == (0, 0, 0)


@pytest.mark.parametrize("gone", range(5))
def test_a_missing_row_is_lost(gone: int) -> None:
    assert found(np.delete(rows(), gone)) == (1, 0, 0)


def test_a_row_that_is_there_twice_is_a_duplicate() -> None:
    assert found(np.insert(rows(), 2, rows()[2])) == (0, 1, 0)


def test_a_row_that_nobody_delivered_is_a_duplicate() -> None:
    strange = rows()[:1].copy()
    strange["time"] += 1
    assert found(np.concatenate([rows()[:1], strange, rows()[1:]])) == (0, 1, 0)


def test_another_value_is_seen() -> None:
    stored = rows()
    stored["raw"][3] += 1
    assert found(stored) == (0, 0, 1)


def test_a_missing_conversion_is_seen() -> None:
    stored = rows()
    stored["physical"][0] = np.nan
    assert found(stored) == (0, 0, 1)
