"""The Grafana dashboard and the alert rules ask only for what ``/metrics`` has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics
from engine.scripted_scenes import SCENES
from tests.monitoring.promql import Kind, PromQLError, check_query

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
LABELS_OF_RULES = {"severity"}
_SERIES = re.compile(r"\b(stoker_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """The labels of every series that a busy Stoker shows."""
    metrics = Metrics(SCENES["busy"])
    metrics.requests.labels("model", "200").inc()
    text = metrics.render().decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def dashboard() -> Any:
    return json.loads((MONITORING / "grafana.json").read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """Every series in a query with the labels that it is asked for."""
    grouped = {
        label.strip() for match in _GROUPING.finditer(query) for label in match[1].split(",")
    }
    for match in _SERIES.finditer(query):
        matched = {each[1] for each in _MATCHER.finditer(match[2] or "")}
        yield match[1], matched | grouped


def wrong_parts(query: str, labels: dict[str, set[str]]) -> list[str]:
    wrong = []
    for name, wanted in asked(query):
        if name not in labels:
            wrong.append(name)
        elif missing := wanted - labels[name]:
            wrong.append(f"{name}: {missing}")
    return wrong


def test_every_panel_asks_for_what_is_there(labels: dict[str, set[str]]) -> None:
    queries = list(panel_queries())
    assert len(queries) >= 30
    assert [wrong for query in queries for wrong in wrong_parts(query, labels)] == []


def test_every_alert_asks_for_what_is_there_and_says_what_to_do(
    labels: dict[str, set[str]],
) -> None:
    for rule in rules():
        assert wrong_parts(rule["expr"], labels) == [], rule["alert"]
        assert _SERIES.search(rule["expr"])
        assert set(rule["labels"]) == LABELS_OF_RULES
        assert set(rule["annotations"]) == {"summary", "description"}
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 10


def test_prometheus_can_read_every_query() -> None:
    for query in panel_queries():
        assert check_query(query) is Kind.INSTANT
    for rule in rules():
        assert check_query(rule["expr"]) is Kind.INSTANT


@pytest.mark.parametrize(
    "query",
    [
        "rate(stoker_agents)",
        "sum(stoker_agents[5m])",
        "sum by (le (stoker_agents)",
        "sum(stoker_agents",
        "stoker_agents{state=hot}",
        'stoker_agents{state=="hot"}',
        "stoker_agents[5 minutes]",
        "stoker_agents[5m] > 0",
        "histogram_quantile(stoker_agents, 0.5)",
        "stoker_agents > ",
        "stoker_agents stoker_agents",
        "stoker_agents and 1",
        "1 > 2",
        "ratee(stoker_agents[5m])",
        "stoker_agents ~ 3",
    ],
)
def test_what_prometheus_would_refuse_is_found_out(query: str) -> None:
    with pytest.raises(PromQLError):
        check_query(query)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("1 + 2 * 3", Kind.SCALAR),
        ("stoker_agents[5m]", Kind.RANGE),
        ("-stoker_agents / 2 > 1 or absent(stoker_agents)", Kind.INSTANT),
        ("sum(stoker_agents) by (le)", Kind.INSTANT),
    ],
)
def test_what_prometheus_takes_is_taken(query: str, kind: Kind) -> None:
    assert check_query(query) is kind


def test_legends_name_labels_that_are_there(labels: dict[str, set[str]]) -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            known = set().union(*(labels[name] for name, _ in asked(target["expr"])))
            assert wanted <= known, panel["title"]


def test_panels_do_not_lie_on_one_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        own = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= own


def test_what_is_not_there_is_found_out(labels: dict[str, set[str]]) -> None:
    assert wrong_parts("rate(stoker_nothing_total[5m])", labels) == ["stoker_nothing_total"]
    assert wrong_parts('stoker_agents{agent="a"}', labels) == ["stoker_agents: {'agent'}"]
    assert wrong_parts("sum by (model) (stoker_agents)", labels) == ["stoker_agents: {'model'}"]


def test_no_label_can_name_an_agent(labels: dict[str, set[str]]) -> None:
    allowed = {"model", "status", "tier", "state", "device", "dtype", "version", "le"}
    assert set().union(*labels.values()) <= allowed
    agents = [row.agent_id for row in SCENES["busy"]().agents]
    assert agents
    text = Metrics(SCENES["busy"]).render().decode()
    assert not [agent for agent in agents if agent in text]
