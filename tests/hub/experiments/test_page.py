"""docs/experiments.md and the OpenAPI document say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from hub.app import create_app
from hub.experiments import comparison, fields, search
from hub.experiments.rules import NEXT, Status
from hub.export import download, formats
from hub.openapi import openapi_document
from hub.settings import HubSettings

PAGE = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def test_the_page_has_the_table_of_statuses() -> None:
    table = PAGE.partition("| from | to |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*) \| (`.*) \|$", table, re.MULTILINE)
    documented = {
        Status(current): frozenset(map(Status, re.findall(r"`(\w+)`", wanted)))
        for names, wanted in rows
        for current in re.findall(r"`(\w+)`", names)
    }
    assert {**documented, Status.ARCHIVED: frozenset()} == NEXT


def test_the_page_has_the_limits() -> None:
    for sentence in (
        f"up to {fields.TAGS_MAX} of 1 to {fields.TAG_LENGTH_MAX} characters",
        f"up to {fields.JSON_BYTES_MAX // 1024} KiB, nested up to {fields.JSON_DEPTH_MAX} levels",
        f"at least {search.LIKENESS_LEAST} by `word_similarity`",
        f"2 to {comparison.RUNS_MAX} runs",
        f"the first {comparison.METRICS_MAX} by name",
        f"takes nothing for {download.SEND_TIMEOUT_S:g} s",
    ):
        assert sentence in TEXT, sentence
    assert search.WORDS_MAX == 10
    assert "At most ten words" in TEXT
    assert download.DURATION_S_MAX == 3600
    assert "not done after an hour" in TEXT
    assert formats.FORMULA_STARTS == ("=", "+", "-", "@", "\t", "\r")
    assert "begins with `=`, `+`, `-`, `@`, a tab or a carriage return" in TEXT


def test_the_document_lists_every_call() -> None:
    document = openapi_document(create_app(HubSettings()))
    calls = {
        (method.upper(), path.removeprefix("/api/v1/experiments"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "experiments" in operation["tags"]
    }
    assert calls == {
        ("GET", ""),
        ("POST", ""),
        ("GET", "/search"),
        ("GET", "/export"),
        ("GET", "/{experiment_id}"),
        ("PATCH", "/{experiment_id}"),
        ("DELETE", "/{experiment_id}"),
        ("POST", "/{experiment_id}/archive"),
        ("POST", "/{experiment_id}/compare"),
    }
    export = document["paths"]["/api/v1/experiments/export"]["get"]
    assert set(export["responses"]["200"]["content"]) == {"text/csv", "application/json"}
    names = {parameter["name"] for parameter in export["parameters"]}
    assert names == {"format", "project_id", "status", "tags", "created_after", "created_before"}
