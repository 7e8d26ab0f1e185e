"""A prepared database for the tests of what is read."""

from __future__ import annotations

from tests.fixtures.readings import bench

__all__ = ["bench"]
