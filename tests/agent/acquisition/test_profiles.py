"""Profiles in force: by time, kept on disk, never in the way of sampling."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.profiles import FOR_EVER_US, SINCE_EVER_US, InForce, ProfileStore, Timeline
from shared.messages import Binding, Config, Profile
from shared.profiles import Linear

FIRST = Profile(UUID(int=1), "1", "linear", {"a": 2.0, "b": 0.0}, None, 1000)
SECOND = Profile(UUID(int=2), "2", "linear", {"a": 3.0, "b": 0.0}, 1000, None)


def config(generation: int, *profiles: Profile, hub_time_us: int | None = None) -> Config:
    time_us = generation if hub_time_us is None else hub_time_us
    return Config(generation, time_us, [Binding("gauge", UUID(int=9), profiles=list(profiles))])


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "configuration.json")


def test_the_first_profile_holds_since_ever_and_the_next_from_its_publication(store: ProfileStore) -> None:
    store.apply(config(1, FIRST, SECOND))
    assert store.current.at("gauge", -5).profile_id == FIRST.id
    assert store.current.at("gauge", 999).profile_id == FIRST.id
    assert store.current.at("gauge", 1000).profile_id == SECOND.id
    assert store.current.at("gauge", 1 << 60).profile_id == SECOND.id
    assert store.current.at("another", 999).profile_id is None


def test_an_agent_without_a_link_finds_the_profiles_of_its_last_run(store: ProfileStore, tmp_path: Path) -> None:
    store.apply(config(7, FIRST, SECOND))
    again = ProfileStore(tmp_path / "configuration.json")
    again.load()
    assert again.current.generation == 7
    found = again.current.at("gauge", 0)
    assert (found.profile_id, found.compiled) == (FIRST.id, Linear(2.0, 0.0))
    assert again.profile(SECOND.id) == Linear(3.0, 0.0)
    assert again.profile(UUID(int=77)) is None


def test_the_stored_configuration_is_its_owners_only(store: ProfileStore, tmp_path: Path) -> None:
    store.apply(config(1, FIRST))
    assert (tmp_path / "configuration.json").stat().st_mode & 0o077 == 0


def test_a_lower_generation_counts_only_if_it_is_from_a_later_time(store: ProfileStore) -> None:
    assert store.apply(config(5, FIRST))
    assert not store.apply(config(5, FIRST))
    assert not store.apply(config(4, SECOND, hub_time_us=4))
    assert store.current.generation == 5
    assert store.apply(config(2, SECOND, hub_time_us=99))
    assert store.current.generation == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"generation": "x"}', b"\xff\xfe"])
def test_a_damaged_file_is_no_reason_not_to_start(store: ProfileStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "configuration.json").write_bytes(content)
    store.load()
    assert store.current.generation == 0
    assert store.apply(config(1, FIRST))


def test_a_disk_that_cannot_be_written_does_not_keep_a_configuration_from_taking_effect(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "gone" / "configuration.json")
    assert store.apply(config(1, FIRST))
    assert store.current.generation == 1


def test_a_profile_that_does_not_compile_is_left_out(store: ProfileStore) -> None:
    broken = Profile(UUID(int=3), "3", "formula", {"expression": "import os"}, 500, None)
    store.apply(config(1, FIRST, broken))
    assert store.current.at("gauge", 600).profile_id == FIRST.id
    assert store.profile(broken.id) is None


def test_sensors_that_the_hub_does_not_take_are_named(store: ProfileStore) -> None:
    store.apply(Config(1, 1, [Binding("old", state="deleted"), Binding("gauge")]))
    assert dict(store.current.refused) == {"old": "deleted"}


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
            lambda span: InForce(min(span), max(span), UUID(int=1 + span[0]))
        ),
        max_size=5,
    ),
    st.integers(-2, 22),
)
def test_at_any_time_the_profile_that_began_last_holds(stretches: list[InForce], when_us: int) -> None:
    found = Timeline(stretches).at(when_us)
    holding = [stretch for stretch in stretches if stretch.from_us <= when_us < stretch.to_us]
    assert found.from_us <= when_us < found.to_us
    assert found.from_us >= SINCE_EVER_US
    assert found.to_us <= FOR_EVER_US
    if holding:
        latest_us = max(stretch.from_us for stretch in holding)
        assert found.profile_id in [stretch.profile_id for stretch in holding if stretch.from_us == latest_us]
    else:
        assert found.profile_id is None


def test_times_are_plain_integers_even_where_they_come_from_arrays() -> None:
    timeline = Timeline([InForce(10, 20, UUID(int=1))])
    assert timeline.at(int(np.int64(15))).profile_id == UUID(int=1)
