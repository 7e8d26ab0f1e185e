"""A call of the route table, made as somebody."""

from __future__ import annotations

import httpx

from tests.hub.access.route_table import NAMED, REQUESTS, Request
from tests.hub.access.world import World


async def call(world: World, row: str, caller: str, project_id: str = "") -> httpx.Response:
    """Send what the table says as this caller; with another `project_id` in the query, if one is given."""
    method, path = row.split()
    asked = REQUESTS.get(row, Request())
    for name, value in NAMED.items():
        path = path.replace(f"{{{name}}}", value)
    if asked.before:
        async with world.hub.services.pool.acquire() as connection:
            await connection.execute(world.filled(asked.before))
    if asked.first:
        assert (await call(world, asked.first, "owner")).is_success
    body = world.filled(asked.json)
    query = world.filled(asked.query) | ({"project_id": project_id} if project_id else {})
    async with world.client(caller) as client:
        return await client.request(method, world.filled(path), params=query, json=body, content=asked.content)
