"""SQL of what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hub.database.pool import Connection
from hub.experiments.comparison import METRICS_MAX, ComparedRun, Metrics, MetricSummary

_RUNS = """
    select id, name, status, tags, params, git_sha, env, started_at, finished_at, duration_seconds
    from runs where experiment_id = $1 and id = any($2)
"""
_NAMES = """
    select name, count(*) over () as total
    from (select distinct name from run_metrics where run_id = any($1)) as names order by name limit $2
"""
# Of numeric, because a sum of doubles overflows where their mean does not.
_SUMMARIES = """
    select s.*, l.value as last
    from (
        select run_id, name, count(*), min(value), max(value), avg(value::numeric)::float8 as mean,
               max(step) as last_step
        from run_metrics where run_id = any($1) and name = any($2) group by run_id, name
    ) as s
    cross join lateral (
        select value from run_metrics m
        where m.run_id = s.run_id and m.name = s.name order by step desc, timestamp desc, id desc limit 1
    ) as l
"""


async def runs(connection: Connection, experiment_id: UUID, run_ids: Sequence[UUID]) -> list[ComparedRun]:
    """Those of the runs that belong to the experiment, in the order asked for."""
    rows = await connection.fetch(_RUNS, experiment_id, run_ids)
    found = {row["id"]: ComparedRun(**dict(row)) for row in rows}
    return [found[run_id] for run_id in run_ids if run_id in found]


async def metrics(connection: Connection, run_ids: Sequence[UUID]) -> tuple[Metrics, int]:
    """Summaries of the first `METRICS_MAX` metrics by name, and how many metrics the runs have."""
    names = await connection.fetch(_NAMES, run_ids, METRICS_MAX)
    if not names:
        return {}, 0
    summaries: dict[str, dict[UUID, MetricSummary]] = {row["name"]: {} for row in names}
    for row in await connection.fetch(_SUMMARIES, run_ids, list(summaries)):
        fields = {field: row[field] for field in MetricSummary.model_fields}
        summaries[row["name"]][row["run_id"]] = MetricSummary(**fields)
    return summaries, names[0]["total"]
