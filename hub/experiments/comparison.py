"""Runs side by side: what they were given and what came out, and what of it differs.

Everything is a line with one value a run, by the run's id. A run that lacks something lacks an entry, and that is a
difference too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from hub.experiments.fields import same_json
from hub.experiments.rules import Status
from hub.fields import Body

RUNS_MAX = 50
METRICS_MAX = 500


def _distinct(run_ids: list[UUID]) -> list[UUID]:
    if len(set(run_ids)) != len(run_ids):
        raise ValueError("each run once")
    return run_ids


class RunsToCompare(Body):
    """Which runs; all of one experiment."""

    run_ids: Annotated[list[UUID], Field(min_length=2, max_length=RUNS_MAX), AfterValidator(_distinct)]
    project_id: UUID | None = Field(None, description="The experiment's, if given.")


class ComparedRun(BaseModel):
    """One of the runs."""

    id: UUID
    name: str
    status: Status
    tags: list[str]
    params: dict[str, Any]
    git_sha: str
    env: str
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None


class MetricSummary(BaseModel):
    """What a run has measured of one metric; `last` is the value of the highest step."""

    count: int
    min: float
    max: float
    mean: float
    last: float
    last_step: int


class Line(BaseModel):
    """One thing of all runs; `values` by the run's id."""

    name: str
    values: dict[UUID, Any]
    differs: bool


class MetricLine(BaseModel):
    """One metric of all runs; `values` by the run's id."""

    name: str
    values: dict[UUID, MetricSummary]
    differs: bool


class Comparison(BaseModel):
    """Runs side by side, in the order asked for."""

    experiment_id: UUID
    runs: list[ComparedRun]
    fields: list[Line] = Field(description="status, tags (in any order), duration_seconds, git_sha, env.")
    params: list[Line] = Field(description="By the names on the params' first level.")
    metrics: list[MetricLine] = Field(description=f"By name, the first {METRICS_MAX}.")
    metrics_total: int


Metrics = Mapping[str, Mapping[UUID, MetricSummary]]
"""Summaries by metric and run."""

_FIELDS: Sequence[tuple[str, Callable[[ComparedRun], Any]]] = (
    ("status", lambda run: run.status.value),
    ("tags", lambda run: sorted(run.tags)),
    ("duration_seconds", lambda run: run.duration_seconds),
    ("git_sha", lambda run: run.git_sha),
    ("env", lambda run: run.env),
)


def compare(experiment_id: UUID, runs: Sequence[ComparedRun], metrics: Metrics, metrics_total: int) -> Comparison:
    """The runs side by side."""
    count = len(runs)
    params = sorted({name for run in runs for name in run.params})
    return Comparison(
        experiment_id=experiment_id,
        runs=list(runs),
        fields=[_line(name, {run.id: value(run) for run in runs}, count) for name, value in _FIELDS],
        params=[
            _line(name, {run.id: run.params[name] for run in runs if name in run.params}, count) for name in params
        ],
        metrics=[
            MetricLine(name=name, values=dict(values), differs=_differ(list(values.values()), count))
            for name, values in sorted(metrics.items())
        ],
        metrics_total=metrics_total,
    )


def _line(name: str, values: dict[UUID, Any], count: int) -> Line:
    return Line(name=name, values=values, differs=_differ(list(values.values()), count))


def _differ(values: Sequence[Any], count: int) -> bool:
    """Whether not all of `count` runs have the same."""
    return len(values) < count or not all(same_json(values[0], value) for value in values[1:])
