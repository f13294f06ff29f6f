"""README and docs say what the code says, their links lead somewhere, and they stand on their own."""

import re
import shlex
import string
from pathlib import Path

import pytest

from collector.commands.arguments import parse
from collector.config.options import OPTIONS
from collector.core.report import WindowOutcome
from collector.watch.metrics import PREFIX
from tests.capacity import STARDUST, Network, Rates, report
from tests.described import METRICS
from tests.unit.test_layering import EVERYTHING, MAY_IMPORT

TOP = Path(__file__).resolve().parents[2]
FILES = (TOP / "README.md", *sorted(TOP.glob("docs/**/*.md")))
PAGES = {path.relative_to(TOP).as_posix(): path.read_text("utf-8") for path in FILES}
CODE = ("collector", "tests", "docs", "sql")
CITING = {".py", ".yml", ".yaml", ".json", ".sql", ".html", ".toml", ".txt"}
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NOT_FOR_READERS = re.compile(r"\bSPEC\b|\bissue \d|\bTODO\b", re.IGNORECASE)
"""What a reader of the repository cannot look up."""

COMMAND = re.compile(r"(?:python |`)esnet_collector\.py\b([^`#\n]*)")
PATH = re.compile(r"(?<![\w./-])(?:tests|docs|sql|\.ci|collector|core|cycle|commands|watch|source|config)/[\w./-]*\w")
NAME = re.compile(r"\b(?:RMQ|MYSQL|NETBEAM|STARDUST|METRICS|LOG|MAX|COLLECTOR|DB|BROKER)_[A-Z_]+\b")
NAMES_OF_OTHERS = {"MYSQL_ROOT_PASSWORD"} | set(re.findall(r"\$\{([A-Z_]+)", (TOP / "docker-compose.yml").read_text("utf-8")))
"""What the compose file takes from .env besides the collector's options."""


def anchors(page: str) -> set[str]:
    """The headings as GitHub and GitLab turn them into anchors."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", page), re.MULTILINE)
    kept = string.ascii_lowercase + string.digits + "-_ "
    return {"".join(each for each in heading.lower() if each in kept).replace(" ", "-") for heading in headings}


def rows(name: str, columns: int) -> list[tuple[str, ...]]:
    """The rows of a page's tables with so many columns whose first one is one name in backticks."""
    found = re.findall(r"^\| `([A-Za-z_]+)` \|(.*)\|$", PAGES[name], re.MULTILINE)
    cells = [(first, *(each.strip() for each in rest.split(" | "))) for first, rest in found]
    return [row for row in cells if len(row) == columns]


def test_every_option_is_documented_once_with_its_default_and_meaning() -> None:
    expected = [(option.name, f"`{option.default}`" if option.default else "", option.meaning) for option in OPTIONS]
    assert rows("docs/configuration.md", 3) == expected


def test_every_metric_is_documented_once_with_its_kind_labels_and_help() -> None:
    shown = [row for row in rows("docs/watching.md", 4) if row[0].startswith(PREFIX)]
    assert shown == [(each.name, each.kind, ", ".join(each.labels), each.help) for each in METRICS]


def test_every_outcome_of_a_window_is_explained() -> None:
    assert {name for name, _ in rows("docs/watching.md", 2)} == set(WindowOutcome)


def test_secrets_for_compose_are_shown_as_the_container_tests_try_them() -> None:
    [shown] = [block for block in re.findall(r"```yaml\n(.*?)```", PAGES["docs/containers.md"], re.DOTALL) if "secrets" in block]
    assert shown in (TOP / "tests/container/test_compose.py").read_text("utf-8")


def test_folders_are_documented_with_what_each_may_import() -> None:
    shown = {
        folder.strip("/"): EVERYTHING if allowed == "all" else set(re.findall("[a-z]+", allowed))
        for folder, allowed in re.findall(r"^\| `([a-z]+/)` \|.*\| ([a-z, -]+) \|$", PAGES["docs/developing.md"], re.MULTILINE)
    }
    assert shown == MAY_IMPORT


@pytest.mark.parametrize("network", [Network(), STARDUST], ids=["netbeam", "stardust"])
def test_capacity_is_documented_as_the_tool_computes_it(network: Network) -> None:
    lines = [line for line in report(network, Rates()).splitlines() if line.startswith("|")]
    assert "\n".join(lines) in PAGES["docs/scaling.md"], "copy what tests/capacity.py prints to docs/scaling.md"


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in LINK.findall(FENCE.sub("", PAGES[name])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (TOP / name).parent / path if path else TOP / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), target


@pytest.mark.parametrize("name", PAGES)
def test_no_page_leans_on_what_its_reader_does_not_have(name: str) -> None:
    assert NOT_FOR_READERS.findall(PAGES[name]) == []


def test_no_comment_leans_on_what_its_reader_does_not_have() -> None:
    cited = re.compile(r"\bSPEC\b|\bissue [0-9]")
    for file in TOP.glob("collector/**/*.py"):
        assert not cited.search(file.read_text("utf-8")), file


def test_metrics_that_a_page_names_exist() -> None:
    known = {each.name for each in METRICS}
    for name, page in PAGES.items():
        for metric in re.findall(rf"\b{PREFIX}[a-z_]+\b", page):
            assert metric.removesuffix("_bucket") in known or metric.startswith(f"{PREFIX}process_"), (name, metric)


def test_pages_that_code_and_other_files_cite_are_there_with_the_headings_that_they_name() -> None:
    cited = re.compile(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?")
    for file in (*TOP.glob("*.*"), *TOP.glob(".env*"), *(each for folder in CODE for each in TOP.glob(f"{folder}/**/*.*"))):
        if file.suffix in CITING or file.name.startswith(".env"):
            for page, anchor in cited.findall(file.read_text("utf-8")):
                assert f"docs/{page}" in PAGES, (file, page)
                assert not anchor or anchor in anchors(PAGES[f"docs/{page}"]), (file, page, anchor)


def test_options_that_a_page_names_exist() -> None:
    known = {each.name for each in OPTIONS} | NAMES_OF_OTHERS
    for name, page in PAGES.items():
        assert set(NAME.findall(page)) <= known, name


def test_files_that_a_page_names_are_there() -> None:
    for name, page in PAGES.items():
        for path in PATH.findall(page):
            found = [TOP / path, TOP / "collector" / path, TOP / "collector" / f"{path}.py", (TOP / name).parent / path]
            assert any(each.exists() for each in found), (name, path)


@pytest.mark.parametrize("command", sorted({each.strip() for page in PAGES.values() for each in COMMAND.findall(page)}))
def test_every_command_that_a_page_shows_is_one_that_the_collector_takes(command: str) -> None:
    assert parse(shlex.split(command)).command
