"""The dashboard and the alerts of docs/watching name what is there: metrics, labels, and headings of the troubleshooting page."""

import json
import re
from pathlib import Path
from typing import Any

from collector.watch.metrics import PREFIX
from tests.described import METRICS
from tests.unit.test_docs import PAGES, anchors

WATCHING = Path(__file__).resolve().parents[2] / "docs" / "watching"
ALERTS = (WATCHING / "alerts.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((WATCHING / "grafana" / "esnet-collector.json").read_text("utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
LABELS = {each.name: {*each.labels, "job", "instance", *(["le"] if each.kind == "histogram" else [])} for each in METRICS}


def metric(name: str) -> str:
    return re.sub("_(bucket|sum|count)$", "", name) if name not in LABELS else name


def test_every_metric_of_dashboard_and_alerts_exists() -> None:
    text = ALERTS + "\n".join(EXPRESSIONS)
    named = {metric(each) for each in re.findall(rf"\b{PREFIX}\w+", text)}
    assert {each for each in named if not each.startswith(f"{PREFIX}process_")} - LABELS.keys() == set()
    assert len(named) > 20


def test_every_label_that_is_selected_is_one_of_its_metric() -> None:
    for text in (ALERTS, *EXPRESSIONS):
        for name, selector in re.findall(rf"\b({PREFIX}\w+)\{{([^}}]*)\}}", text):
            if not name.startswith(f"{PREFIX}process_"):
                assert set(re.findall(r'(\w+)=~?"', selector)) <= LABELS[metric(name)], name


def test_dashboard_shows_what_operators_ask_for() -> None:
    shown = {metric(each) for each in re.findall(rf"\b{PREFIX}\w+", "\n".join(EXPRESSIONS))}
    wanted = (
        *("freshness_seconds", "points_confirmed_total", "cycle_seconds", "cycle_windows_done", "cycle_windows_planned"),
        *("windows_total", "requests_total", "request_seconds", "dependency_up", "share_info", "lag_seconds"),
    )
    assert {PREFIX + each for each in wanted} <= shown


def test_panels_have_places_of_their_own_and_one_source_of_data() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    alerts = ALERTS.split("- alert: ")[1:]
    assert len(alerts) > 10
    for each in alerts:
        assert re.search(r"severity: (critical|warning|info)\n", each)
        assert all(f"{name}:" in each for name in ("summary", "description", "runbook"))
    runbooks = re.findall(r"docs/troubleshooting\.md#([a-z0-9-]+|\{\{.*?end \}\})", ALERTS, re.DOTALL)
    named = {part for each in runbooks for part in re.findall(r"(?:^|\}\})([a-z0-9-]+)", each)}
    assert len(runbooks) == len(alerts)
    assert named - anchors(PAGES["docs/troubleshooting.md"]) == set()
    assert {"mysql-is-not-available", "nobody-collects"} <= named


def test_compose_file_mounts_files_that_are_there_and_grafana_finds_its_dashboard() -> None:
    compose = (WATCHING.parents[1] / "docker-compose.yml").read_text("utf-8")
    mounted = dict(re.findall(r"- \./(docs/watching/\S+?):(\S+):ro", compose))
    assert len(mounted) == 5
    assert all((WATCHING.parents[1] / each).is_file() for each in mounted)
    assert mounted["docs/watching/alerts.yml"] == "/etc/prometheus/alerts.yml"  # beside the file that names it
    dashboards = (WATCHING / "grafana" / "dashboards.yml").read_text("utf-8")
    folder = mounted["docs/watching/grafana/esnet-collector.json"].rpartition("/")[0]
    assert f"path: {folder}\n" in dashboards
    assert f"HOME_DASHBOARD_PATH: {folder}/esnet-collector.json" in compose
