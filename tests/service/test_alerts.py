"""The files of docs/watching: Prometheus takes them, and each alert fires in its situation and only there."""

import json
import re
import subprocess
from pathlib import Path

import pytest

WATCHING = Path(__file__).resolve().parents[2] / "docs" / "watching"
RULES = WATCHING / "alerts.yml"
PREFIX = "esnet_collector_"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text("utf-8"))
WELL = {
    "healthy{worker}": "1x360",
    "standby{worker}": "0x360",
    'share_info{worker,role="working",share="1/1"}': "1x360",
    'freshness_seconds{worker,record_type="traffic"}': "1000x360",
    'lag_seconds{worker,record_type="traffic",stat="median"}': "120x360",
    'lag_seconds{worker,record_type="traffic",stat="worst"}': "90000x360",
    "settle_delay_seconds{worker}": "900x360",
    "poll_interval_seconds{worker}": "900x360",
    'dependency_up{worker,dependency="netbeam"}': "1x360",
    'dependency_up{worker,dependency="mysql"}': "1x360",
    'dependency_up{worker,dependency="rabbitmq"}': "1x360",
    'points_returned_total{worker,record_type="traffic"}': "7x360",
    'points_refused_total{worker,record_type="traffic"}': "7x360",
    'points_invalid_total{worker,record_type="traffic"}': "7x360",
    "interface_messages_returned_total{worker}": "7x360",
    "interface_messages_refused_total{worker}": "7x360",
    "messages_unacceptable_total{worker}": "7x360",
    'windows_total{worker,outcome="done"}': "0+1200x360",
    'windows_total{worker,outcome="empty"}': "0+400x360",
    'windows_total{worker,outcome="failed"}': "0+1x360",
    'interfaces{worker,state="active"}': "10679x360",
    'interfaces{worker,state="held_back"}': "0x360",
    'interfaces{worker,state="untrusted"}': "0x360",
    "shares_free{worker}": "0x360",
    "process_start_time_seconds{worker}": "1700000000x360",
}
"""One collector that works, minute by minute for six hours."""
STANDBY = {
    "healthy{standby}": "1x360",
    "standby{standby}": "1x360",
    'share_info{standby,role="standby",share="1/1"}': "1x360",
    "settle_delay_seconds{standby}": "900x360",
    "poll_interval_seconds{standby}": "900x360",
    'dependency_up{standby,dependency="mysql"}': "1x360",
    'dependency_up{standby,dependency="rabbitmq"}': "1x360",
}
LABELS = {name: f'job="esnet-collector",instance="{name}:8000"' for name in ("worker", "standby", "second")}
SECOND = {
    "healthy{second}": "1x360",
    "standby{second}": "0x360",
    'share_info{second,role="working",share="2/2"}': "1x360",
}
LATE = 300
"""Minutes after which it is looked whether an alert fires, unless a situation says otherwise."""

SITUATIONS: dict[str, tuple[dict[str, str], set[str], int]] = {
    "all is well": (WELL, set(), LATE),
    "all is well with a standby": (WELL | STANDBY, set(), LATE),
    "a freshly started collector waits for its systems": (
        {"healthy{worker}": "1x360", "standby{worker}": "0x360", 'share_info{worker,role="starting",share="1/1"}': "1x360"},
        set(),
        4,
    ),
    "nothing answers": ({}, {"NobodyCollects"}, LATE),
    "the only collector fails": (WELL | {"healthy{worker}": "0x360"}, {"NobodyCollects"}, LATE),
    "the worker fails for ever beside a healthy standby": (
        WELL | STANDBY | {"healthy{worker}": "0x360"}, {"NobodyCollects"}, LATE,
    ),
    "two standbys and no worker": (
        STANDBY | {key.replace("{standby", "{second"): value for key, value in STANDBY.items()}, {"NobodyCollects"}, LATE,
    ),
    "one of two shares fails": (WELL | SECOND | {"healthy{second}": "0x360"}, {"NobodyCollects"}, LATE),
    "a cycle fails once and the next one goes well": (WELL | {"healthy{worker}": "1x298 0x3 1x60"}, set(), LATE + 3),
    "a take-over within a minute": (
        WELL | STANDBY
        | {"healthy{worker}": "1x200 stale", "standby{worker}": "0x200 stale", "standby{standby}": "1x201 0x160"}
        | {'share_info{worker,role="working",share="1/1"}': "1x200 stale"}
        | {'share_info{standby,role="standby",share="1/1"}': "1x200 stale"}
        | {'share_info{standby,role="working",share="1/1"}': "_x200 1x160"},
        set(), 210,
    ),
    "a share has no collector": (WELL | {"shares_free{worker}": "1x360"}, {"ShareFree"}, LATE),
    "no new point reaches the bus": (WELL | {'freshness_seconds{worker,record_type="traffic"}': "1000+60x360"}, {"DataOld"}, 60),
    "an interval is missed": (WELL | {'freshness_seconds{worker,record_type="traffic"}': "1000+60x30 900x300"}, set(), 29),
    "half of the series are hours behind": (
        WELL | {'lag_seconds{worker,record_type="traffic",stat="median"}': "7200x360"}, {"FallsBehind"}, LATE,
    ),
    "one system is away": (WELL | {'dependency_up{worker,dependency="mysql"}': "0x360"}, {"DependencyDown"}, LATE),
    "a system is away for a moment": (WELL | {'dependency_up{worker,dependency="mysql"}': "1x297 0x5 1x60"}, set(), LATE),
    "no queue takes points": (
        WELL | {'points_returned_total{worker,record_type="traffic"}': "0x200 0+5x160"}, {"NoQueue"}, LATE,
    ),
    "no queue takes interfaces": (WELL | {"interface_messages_returned_total{worker}": "0x200 0+5x160"}, {"NoQueue"}, LATE),
    "a queue is full": (WELL | {'points_refused_total{worker,record_type="traffic"}': "0x200 0+5x160"}, {"Refused"}, LATE),
    "a message is unacceptable": (WELL | {"messages_unacceptable_total{worker}": "0x280 1x80"}, {"GivenUp"}, LATE),
    "a message was unacceptable long ago": (WELL | {"messages_unacceptable_total{worker}": "0x100 1x260"}, set(), LATE),
    "many windows fail": (WELL | {'windows_total{worker,outcome="failed"}': "0+200x360"}, {"WindowsFail"}, LATE),
    "most windows are empty": (WELL | {'windows_total{worker,outcome="empty"}': "0+90000x360"}, set(), LATE),
    "points are invalid": (
        WELL | {'points_invalid_total{worker,record_type="traffic"}': "0x200 0+5x160"}, {"PointsDropped"}, LATE,
    ),
    "listings are held back for hours": (WELL | {'interfaces{worker,state="held_back"}': "3000x360"}, {"ListingHeldBack"}, LATE),
    "one listing is held back": (WELL | {'interfaces{worker,state="held_back"}': "0x290 3000x15 0x60"}, set(), LATE),
    "a row cannot be trusted": (WELL | {'interfaces{worker,state="untrusted"}': "2x360"}, {"RowsUntrusted"}, LATE),
    "it starts again and again": (WELL | {"process_start_time_seconds{worker}": "1700000000+300x360"}, {"Restarts"}, LATE),
    "it was updated": (WELL | {"process_start_time_seconds{worker}": "1700000000x270 1700020000x90"}, set(), LATE),
}  # fmt: skip


def promtool(*arguments: str | Path) -> str:
    """Run it; fails when there is none: this tier never skips silently."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(name: str) -> str:
    """`metric{worker,label="x"}` with the prefix and the labels of that scrape."""
    metric, _, labels = name.removesuffix("}").partition("{")
    place, _, others = labels.partition(",")
    return f"{PREFIX}{metric}{{{LABELS[place]}{',' if others else ''}{others}}}"


@pytest.mark.parametrize("situation", SITUATIONS)
def test_alert_fires_in_its_situation_and_only_there(tmp_path: Path, situation: str) -> None:
    inputs, firing, at_min = SITUATIONS[situation]
    expected = [{"labels": f'{{alertname="EsnetCollector{each}"}}', "value": 1} for each in sorted(firing)]
    test = {
        "interval": "1m",
        "input_series": [{"series": series(name), "values": values} for name, values in inputs.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{at_min}m",
                "exp_samples": expected,
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}), "utf-8")
    promtool("test", "rules", file)


def test_every_alert_has_its_situation() -> None:
    assert {f"EsnetCollector{each}" for _, firing, _ in SITUATIONS.values() for each in firing} == set(ALERTS)


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", WATCHING / "prometheus.yml")


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads((WATCHING / "grafana" / "esnet-collector.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = {"$job": ".*", "$instance": ".*", "$__rate_interval": "2m"}
    for name, value in variables.items():
        expressions = [each.replace(name, value) for each in expressions]
    assert not [each for each in expressions if "$" in each]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)
