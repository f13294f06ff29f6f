"""What README and docs show to be copied, run as it stands."""

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.rig.tables import MysqlTable
from tests.servers.databases import DatabaseServer
from tests.servers.ports import free_port

TOP = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
DAY_MS = 86_400_000
SHOWN = "devices/albq-cr5/interfaces/1%2F1%2F1"


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (TOP / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_lines_against_the_simulated_network_work_as_they_stand(tmp_path: Path) -> None:
    [shown] = [block for block in blocks("docs/commands.md", "sh") if "collector.source.simulated" in block]
    lines = shown.replace(".venv/bin/python", sys.executable).replace("8081", str(free_port()))
    lines = lines.replace("esnet_collector.py", str(TOP / "esnet_collector.py"))
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"routing_key": "esnet_interfaces"') == 5
    assert '"routing_key": "esnet_traffic"' in done.stdout
    assert all(re.search(rf"^{each}\b.*\d", done.stdout, re.MULTILINE) for each in ("traffic", "errors", "discards"))
    assert list(tmp_path.iterdir()) == []


def test_statements_on_the_table_change_the_rows_that_they_are_for(database_server: DatabaseServer) -> None:
    table = MysqlTable(database_server)
    table.create()
    now_ms = int(time.time()) * 1000
    table.insert(SHOWN, now_ms - 400 * DAY_MS, now_ms - 91 * DAY_MS, traffic=now_ms - 91 * DAY_MS)
    table.insert(SHOWN, now_ms - 80 * DAY_MS, now_ms - 70 * DAY_MS, traffic=now_ms - 70 * DAY_MS)
    table.insert(SHOWN, now_ms - 60 * DAY_MS, traffic=now_ms)
    table.insert("devices/other", now_ms - 400 * DAY_MS, traffic=now_ms)
    for statement in blocks("docs/table.md", "sql"):
        table.sql(statement)
    assert [(row.name, row.until["traffic"]) for row in table.rows()] == [
        (SHOWN, str(now_ms - 70 * DAY_MS)),
        (SHOWN, "1795500000000"),
        ("devices/other", str(now_ms)),
    ]
