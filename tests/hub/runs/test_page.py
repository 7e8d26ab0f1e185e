"""docs/experiments.md says what the code of runs does, and the OpenAPI document lists their calls."""

from __future__ import annotations

import re
from pathlib import Path

from hub.app import create_app
from hub.openapi import openapi_document
from hub.runs import views
from hub.runs.artifacts import contents
from hub.runs.attached import routes as attached
from hub.runs.metrics import routes as metrics
from hub.runs.metrics.views import POINTS_MAX, VALUE_MAX
from hub.settings import HubSettings

ROOT = Path(__file__).parents[3]
TEXT = " ".join((ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").split())
CODE = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "hub" / "runs").rglob("*.py")))

CALLS = """
    GET POST /experiments/{experiment_id}/runs
    GET /experiments/{experiment_id}/runs/export
    GET PATCH DELETE /runs/{run_id}
    GET /runs/{run_id}/events
    POST /runs:batch-status
    POST /runs:bulk-tags
    GET PUT /runs/{run_id}/sensors
    GET POST /runs/{run_id}/metrics
    GET /runs/{run_id}/metrics/summary
    GET /runs/{run_id}/metrics/aggregated
    GET POST /runs/{run_id}/annotations
    DELETE /runs/{run_id}/annotations/{annotation_id}
    GET POST /runs/{run_id}/artifacts
    GET PATCH DELETE /runs/{run_id}/artifacts/{artifact_id}
    POST DELETE /runs/{run_id}/artifacts/{artifact_id}/approve
    GET PUT /runs/{run_id}/artifacts/{artifact_id}/content
"""


def test_the_page_has_the_limits() -> None:
    for sentence in (
        f"up to {views.RUNS_AT_ONCE_MAX} runs",
        f"up to {attached.SENSORS_MAX:,}, and no others",
        f"up to {POINTS_MAX:,} as",
        f"more than {metrics.BUCKETS_MAX:,} in one answer",
        f"more than {metrics._BUCKETS_DEFAULT} buckets",
        f"up to {contents.READ_BYTES >> 20} MiB",
        "within 15 s",
    ):
        assert sentence in TEXT, sentence
    assert float("1e300") == VALUE_MAX
    assert "10^300 in size" in TEXT
    assert views._MINUTES_MAX // 60 // 24 == 366
    assert "up to a year" in TEXT


def test_the_page_names_every_event_and_every_refusal() -> None:
    for event in re.findall(r'"((?:run|annotation|artifact)\.\w+)"', CODE):
        thing, _, what = event.partition(".")
        assert f"`{event}`" in TEXT or (thing == "artifact" and f"`.{what}`" in TEXT), event
    for code in set(re.findall(r'code="(\w+)"', CODE)) - {"invalid_field", "conflict", "too_many_tags"}:
        assert f"`{code}`" in TEXT, code


def test_the_document_lists_every_call() -> None:
    document = openapi_document(create_app(HubSettings()))
    listed = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "runs" in operation["tags"]
    }
    expected = {(method, words[-1]) for words in map(str.split, CALLS.split("\n")) for method in words[:-1]}
    assert listed == expected
