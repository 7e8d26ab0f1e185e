"""Epochs: holes by arithmetic, and what the API says of an agent's chain of them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from hub.agents.epochs import Range, known_through, missing
from hub.database.pool import transaction
from shared.messages import State
from tests.hub.conftest import Hub

_ranges = st.lists(st.builds(lambda first, length: Range(first, first + length), st.integers(1, 60), st.integers(0, 9)))


@given(st.integers(0, 60), _ranges)
def test_what_is_missing_is_what_no_range_holds(last_seq: int, known: list[Range]) -> None:
    held = {seq for one in known for seq in range(one.first, one.last + 1)}
    wanted = [seq for seq in range(1, last_seq + 1) if seq not in held]
    assert [seq for hole in missing(last_seq, known) for seq in range(hole.first, hole.last + 1)] == wanted
    through = known_through(known)
    assert through + 1 not in held
    assert all(seq in held for seq in range(1, through + 1))


class Chain:
    """An agent's epochs, as batches would have left them."""

    def __init__(self, hub: Hub, project_id: str) -> None:
        self.hub = hub
        self.project_id = UUID(project_id)
        self.agent_id = uuid4()

    async def enrol(self) -> None:
        async with transaction(self.hub.services.pool) as connection:
            await connection.execute(
                "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'bench', '')",
                self.agent_id,
                self.project_id,
            )

    async def epoch(self, name: bytes, seqs: list[int], previous: tuple[bytes, int] | None = None) -> int:
        async with transaction(self.hub.services.pool) as connection:
            epoch_id: int = await connection.fetchval(
                """
                insert into epochs (agent_id, epoch, previous_epoch, previous_last_seq, started_at)
                values ($1, $2, $3, $4, clock_timestamp()) returning id
                """,
                self.agent_id,
                name,
                previous[0] if previous else None,
                previous[1] if previous else None,
            )
            await connection.execute(
                """
                insert into ledger (epoch_id, seq, checksum, kind, clock_segment, taken_through_us)
                select $1, seq, 0, 1, 1, 0 from unnest($2::bigint[]) as seq
                """,
                epoch_id,
                seqs,
            )
        return epoch_id

    async def gap(self, epoch_id: int, seq: int, name: bytes, first: int, last: int) -> None:
        async with transaction(self.hub.services.pool) as connection:
            await connection.execute(
                """
                insert into gaps (epoch_id, seq, cause, time_from, time_to, readings, record)
                values ($1, $2, 'quota_oldest', now(), now(), 9, $3)
                """,
                epoch_id,
                seq,
                {"batches": [[name.hex(), first, last]]},
            )


async def test_holes_tails_and_ends_of_an_agents_epochs(hub: Hub) -> None:
    lost, second, running = b"L" * 16, b"S" * 16, b"R" * 16
    async with aclosing(await hub.signed_in()) as client:
        project_id = (await client.post("/projects", json={"name": "lab"})).json()["id"]
        chain = Chain(hub, project_id)
        await chain.enrol()
        await chain.epoch(lost, [1, 2, 5])
        await chain.epoch(second, [1, 2, 3, 7])
        third = await chain.epoch(running, [1, 2, 3], previous=(second, 9))
        await chain.gap(third, 2, second, 4, 5)
        hub.services.presence.note(chain.agent_id, State("online", running.hex()), retained=False)
        path = f"/api/v1/agents/{chain.agent_id}/epochs"

        async def listed() -> dict[str, dict[str, Any]]:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            assert answer.json()["total"] == 3
            return {one["epoch"]: one for one in answer.json()["epochs"]}

        found = await listed()
        assert {name: one["state"] for name, one in found.items()} == {
            running.hex(): "open",
            second.hex(): "closed",
            lost.hex(): "unknown_tail",
        }
        assert found[lost.hex()]["holes"] == [{"first": 3, "last": 4}]
        ended = found[second.hex()]
        assert (ended["first_seq"], ended["last_seq"], ended["successor"]) == (1, 9, running.hex())
        assert ended["holes"] == [{"first": 6, "last": 6}, {"first": 8, "last": 9}]
        assert (ended["stored_batches"], ended["explained_batches"]) == (4, 2)
        assert [gap["cause"] for gap in found[running.hex()]["gaps"]] == ["quota_oldest"]

        assert (await client.post(f"{path}/{running.hex()}/close", json={"reason": "x"})).status_code == 409
        given_up = [await client.post(f"{path}/{second.hex()}/close", json={"reason": "x"}) for _ in range(2)]
        assert [one.status_code for one in given_up] == [200, 409], "what is missing of it is given up, once"
        assert (await client.post(f"{path}/{'0' * 32}/close", json={"reason": "x"})).status_code == 404
        assert (await client.post(f"{path}/{lost.hex()}/close", json={})).status_code == 422
        closed = await client.post(f"{path}/{lost.hex()}/close", json={"reason": "the disk burnt"})
        assert (closed.json()["state"], closed.json()["closed_reason"]) == ("closed", "the disk burnt")
        assert (await listed())[lost.hex()]["holes"] == [{"first": 3, "last": 4}], "an end explains no holes"
        async with aclosing(await hub.member("stranger")) as stranger:
            assert (await stranger.get(path)).status_code == 404
            assert (await stranger.post(f"{path}/{lost.hex()}/close", json={"reason": "x"})).status_code == 404


async def test_all_open_epochs_of_a_retired_agent_are_unknown_tails(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        chain = Chain(hub, (await client.post("/projects", json={"name": "lab"})).json()["id"])
        await chain.enrol()
        await chain.epoch(b"L" * 16, [1])
        path = f"/api/v1/agents/{chain.agent_id}"
        assert (await client.get(f"{path}/epochs")).json()["epochs"][0]["state"] == "open"
        assert (await client.post(f"{path}/retire")).status_code == 200
        assert (await client.get(f"{path}/epochs")).json()["epochs"][0]["state"] == "unknown_tail"
