"""Settings: where they come from, which values they take, and what an operator is told about the others."""

import os
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from collector.config import env_file
from collector.config.configuration import Config
from collector.config.options import OPTIONS
from collector.config.systems import MysqlSettings, RabbitSettings, Secret, StardustSettings
from collector.core.errors import ConfigurationError
from collector.core.model import RecordType
from collector.core.share import Share

TOP = Path(__file__).resolve().parents[2]
REQUIRED = {"RMQ_HOST": "broker", "RMQ_USER": "user", "RMQ_PASS": "pass-secret", "MYSQL_PASSWORD": "sql-secret"}
OLDER_FILE = """[rabbitmq]
rmq-host = broker.example
rmq-user = username
rmq-pass = password
rmq-port = 5673

MYSQL_ROOT_PASSWORD=root
MYSQL_DATABASE=esnet
MYSQL_USER=esnet_user
MYSQL_PASSWORD=sql
"""


def load(file: str | None = None, *, environ: dict[str, str]) -> Config:
    """As the command line does."""
    return Config.of(env_file.gather(environ, file))


def from_file(directory: Path, content: str | bytes, environ: dict[str, str] | None = None) -> Config:
    path = directory / "settings.env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(str(path), environ=REQUIRED if environ is None else environ)


def problems_of(variables: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Config.from_mapping(REQUIRED | variables)
    return caught.value.problems


def test_defaults_are_those_of_the_documentation() -> None:
    config = Config.from_mapping(REQUIRED)
    assert config.rmq is not None
    assert config.mysql is not None
    assert config.netbeam_url == "https://esnet-netbeam.appspot.com/api/network/esnet/prod"
    assert (config.netbeam_concurrency, config.netbeam_rate, config.netbeam_timeout_s) == (16, 0, 30)
    assert config.record_types == tuple(RecordType)
    assert (config.poll_interval_s, config.settle_delay_s, config.initial_lookback_s) == (900, 900, 1800)
    assert (config.max_window_s, config.max_backlog_s, config.idle_backoff_s) == (172800, 2592000, 3600)
    assert (config.late_data_s, config.share) == (86400, Share())
    assert (config.max_retired_share, config.interface_snapshot_interval_s) == (0.2, 86400)
    assert (config.exchange, config.interface_key, config.traffic_key) == ("osg.psdata.raw", "esnet_interfaces", "esnet_traffic")
    assert (config.rmq.hosts, config.rmq.port, config.rmq.vhost) == (("broker",), 5672, "/")
    assert (config.rmq.tls, config.rmq.mandatory, config.rmq.declare) == (False, True, False)
    assert (config.mysql.host, config.mysql.port) == ("esnet_db", 3306)
    assert (config.mysql.database, config.mysql.user) == ("esnet", "esnet_user")
    assert (config.metrics_port, config.metrics_host, config.log_level, config.log_format) == (8000, "127.0.0.1", "INFO", "text")
    assert config.warnings == ()


def test_every_option_has_a_field_that_reads_it() -> None:
    settings = (Config, RabbitSettings, MysqlSettings, StardustSettings)
    hints = [hint for each in settings for hint in get_type_hints(each, include_extras=True).values()]
    read = [origin for hint in hints for origin in getattr(hint, "__metadata__", ()) if isinstance(origin, str)]
    secrets = ["RMQ_PASS_FILE", "MYSQL_PASSWORD_FILE", "STARDUST_PASSWORD_FILE"]
    assert sorted(read + secrets) == sorted(option.name for option in OPTIONS)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("NETBEAM_URL", "http://127.0.0.1:8080/api/", "netbeam_url", "http://127.0.0.1:8080/api"),
        ("NETBEAM_URL", "http://[::1]:8080", "netbeam_url", "http://[::1]:8080"),
        ("NETBEAM_CONCURRENCY", " 256 ", "netbeam_concurrency", 256),
        ("NETBEAM_RATE", "0.5", "netbeam_rate", 0.5),
        ("NETBEAM_RATE", "0.0", "netbeam_rate", 0),
        ("NETBEAM_TIMEOUT", "2.5", "netbeam_timeout_s", 2.5),
        ("RECORD_TYPES", "errors, Traffic", "record_types", (RecordType.ERRORS, RecordType.TRAFFIC)),
        ("POLL_INTERVAL", "1", "poll_interval_s", 1),
        ("SETTLE_DELAY", "0", "settle_delay_s", 0),
        ("MAX_WINDOW", "60", "max_window_s", 60),
        ("MAX_BACKLOG", "1e3", "max_backlog_s", 1000),
        ("LATE_DATA", "0", "late_data_s", 0),
        ("SHARD", " 3/3 ", "share", Share(3, 3)),
        ("SHARD", "1000/1000", "share", Share(1000, 1000)),
        ("MAX_RETIRED_SHARE", "1", "max_retired_share", 1),
        ("RMQ_EXCHANGE", "x" * 255, "exchange", "x" * 255),
        ("METRICS_PORT", "0", "metrics_port", 0),
        ("METRICS_HOST", "::", "metrics_host", "::"),
        ("METRICS_HOSTS", "watch.example.org, esnet", "metrics_hosts", ("watch.example.org", "esnet")),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("LOG_FORMAT", "JSON", "log_format", "json"),
    ],
)
def test_values_within_their_limits_are_taken(variable: str, value: str, field: str, expected: object) -> None:
    assert getattr(Config.from_mapping(REQUIRED | {variable: value}), field) == expected


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("NETBEAM_CONCURRENCY", ["0", "257", "1.5", "-1", "1_6", "٣", "many", "9" * 30]),
        ("NETBEAM_TIMEOUT", ["0", "-1", "nan", "inf", "1e999", "86401", "0x10"]),
        ("NETBEAM_RATE", ["-1", "nan", "0.0001", "1e6"]),
        ("POLL_INTERVAL", ["0", "0.9", "infinity", "15m", "1e10"]),
        ("SETTLE_DELAY", ["-1", "NaN"]),
        ("INITIAL_LOOKBACK", ["-0.1", "1e10"]),
        ("MAX_WINDOW", ["59", "0"]),
        ("LATE_DATA", ["-1", "day"]),
        ("SHARD", ["0/1", "2/1", "1/1001", "1", "1/", "-1/2", "1/2/3", "a/b", "٣/٣", "1 /2"]),
        ("MAX_RETIRED_SHARE", ["1.1", "-0.1", "20%"]),
        ("RMQ_PORT", ["0", "65536", "amqp"]),
        ("METRICS_PORT", ["-1", "65536"]),
        ("NETBEAM_URL", ["ftp://host/", "host/api", "http://", "http://host/?a=b", "http://host/#a", "http://a b/", "http:///api"]),
        ("NETBEAM_URL", ["http://host:port/", "http://host:0/", "http://[::1/", "http://a..b/", "http://hôte/"]),
        ("RMQ_HOST", ["amqp://host", "host:5672", "a,,b", "a b", "a..b", "x" * 64, " "]),
        ("MYSQL_HOST", ["a,b", "host/"]),
        ("RECORD_TYPES", ["traffic,traffic", "bytes", "errors,,traffic", ","]),
        ("RMQ_TLS", ["t", "ja", "2", '"true"']),
        ("RMQ_TRAFFIC_KEY", ["x" * 256, "é" * 128]),
        ("RMQ_VHOST", ["x" * 256]),
        ("MYSQL_DATABASE", ["x" * 65]),
        ("LOG_LEVEL", ["LOUD"]),
        ("LOG_FORMAT", ["xml"]),
        ("RMQ_USER", ["\udcff"]),
        ("RMQ_PASS", ["\udcff"]),
        ("MYSQL_CA_FILE", ["/no/such/file", "/", "nul\0"]),
    ],
)
def test_other_values_are_one_problem_that_names_the_variable_and_not_the_value(variable: str, values: list[str]) -> None:
    for value in values:
        problems = problems_of({variable: value})
        assert len(problems) == 1
        assert problems[0].startswith(f"{variable} must be ")
        assert len(value) < 3 or value not in problems[0]


@pytest.mark.parametrize(("value", "texts"), [(True, "true 1 yes on TRUE Yes"), (False, "false 0 no off False Off")])
def test_booleans_are_taken_in_all_their_forms(value: bool, texts: str) -> None:
    for text in texts.split():
        config = Config.from_mapping(REQUIRED | {"RMQ_DECLARE": text})
        assert config.rmq is not None
        assert config.rmq.declare is value


def test_every_problem_is_in_one_report_and_no_secret_with_them() -> None:
    variables = {"RMQ_HOST": "", "RMQ_USER": "", "METRICS_PORT": "x", "POLL_INTERVAL": "0", "NETBEAM_URL": "https://me:url-secret@h/?x"}
    problems = problems_of(variables | {"RMQ_PASS_FILE": "file-secret"})
    named = [problem.split()[0] for problem in problems]
    assert named == ["NETBEAM_URL", "POLL_INTERVAL", "RMQ_HOST", "RMQ_USER", "RMQ_PASS", "METRICS_PORT"]
    assert "secret" not in " ".join(problems)


def test_an_empty_value_counts_as_not_set() -> None:
    config = Config.from_mapping(REQUIRED | {"RMQ_VHOST": "", "POLL_INTERVAL": "", "RMQ_PASS_FILE": ""})
    assert config.rmq is not None
    assert config.rmq.vhost == "/"
    assert config.poll_interval_s == 900


def test_late_data_is_cut_to_the_backlog_with_a_warning() -> None:
    config = Config.from_mapping(REQUIRED | {"MAX_BACKLOG": "3600"})
    assert config.late_data_s == 3600
    assert [warning.split()[0] for warning in config.warnings] == ["LATE_DATA"]
    for enough in ("0", "86400"):
        config = Config.from_mapping(REQUIRED | {"MAX_BACKLOG": enough})
        assert (config.late_data_s, config.warnings) == (86400, ())


def test_what_is_replaced_is_neither_required_nor_looked_at() -> None:
    config = Config.from_mapping({"RMQ_PORT": "x", "MYSQL_PORT": "x", "RMQ_TRAFFIC_KEY": "key"}, without={"rmq", "mysql"})
    assert (config.rmq, config.mysql, config.traffic_key) == (None, None, "key")


STARDUST = REQUIRED | {"SOURCE": "Stardust"}


def test_stardust_has_defaults_of_its_own() -> None:
    config = Config.from_mapping(STARDUST)
    assert config.source == "stardust"
    assert config.stardust == StardustSettings(
        url="https://el.gc1.prod.stardust.es.net:9200", index="sd_public_interfaces", timeout_s=60, concurrency=4
    )
    assert (config.settle_delay_s, config.initial_lookback_s) == (1800, 3600)
    set_all_the_same = Config.from_mapping(STARDUST | {"SETTLE_DELAY": "900", "INITIAL_LOOKBACK": "0"})
    assert (set_all_the_same.settle_delay_s, set_all_the_same.initial_lookback_s) == (900, 0)
    assert Config.from_mapping(REQUIRED).stardust is None


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("STARDUST_URL", ["http://me:url-secret@host", "http://url-secret@host:9200/", "http://host/?a=b", "host:9200"]),
        ("STARDUST_INDEX", ["_all", "sd_*", "one,two", "Upper", "a/b", "a b", "-x", "x" * 256, "%2e", "a:b"]),
        ("STARDUST_TIMEOUT", ["0", "-1", "nan"]),
        ("STARDUST_CONCURRENCY", ["0", "33", "1.5"]),
    ],
)
def test_values_that_stardust_cannot_have_are_one_problem(variable: str, values: list[str]) -> None:
    for value in values:
        (problem,) = problems_of(STARDUST | {variable: value})
        assert problem.startswith(f"{variable} must be ")
        assert "url-secret" not in problem


def test_stardust_s_user_and_password_are_both_there_or_neither(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("file-secret\n")
    password_file = {"STARDUST_PASSWORD_FILE": str(tmp_path / "password")}
    for half in ({"STARDUST_USER": "me"}, {"STARDUST_PASSWORD": "secret"}, password_file):
        (problem,) = problems_of(STARDUST | half)
        assert "must be set together" in problem
    stardust = Config.from_mapping(STARDUST | {"STARDUST_USER": "me"} | password_file).stardust
    assert stardust is not None
    assert stardust.password is not None
    assert (stardust.user, stardust.password.read()) == ("me", "file-secret")
    assert "secret" not in repr(stardust)


def test_the_other_source_s_settings_are_not_looked_at() -> None:
    both = {"NETBEAM_URL": "no url", "NETBEAM_TIMEOUT": "x"}
    assert Config.from_mapping(STARDUST | both).netbeam_timeout_s == 30
    assert Config.from_mapping(REQUIRED | {"STARDUST_URL": "no url", "STARDUST_USER": "half"}).stardust is None


def test_several_brokers_are_separated_by_commas() -> None:
    config = Config.from_mapping(REQUIRED | {"RMQ_HOST": "a.example, b_2.example ,::1"})
    assert config.rmq is not None
    assert config.rmq.hosts == ("a.example", "b_2.example", "::1")


def test_tls_moves_the_broker_s_default_port() -> None:
    rmq = Config.from_mapping(REQUIRED | {"RMQ_TLS": "on"}).rmq
    assert rmq is not None
    assert rmq.port == 5671


def test_certificates_without_tls_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("key")
    assert problems_of({"RMQ_KEY_FILE": str(tmp_path / "key.pem")}) == ("RMQ_KEY_FILE must not be set while RMQ_TLS is false",)


@pytest.mark.parametrize("variable", ["RMQ_CA_FILE", "MYSQL_CA_FILE"])
def test_a_file_without_a_certificate_is_a_problem_before_anything_is_contacted(tmp_path: Path, variable: str) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    (problem,) = problems_of({variable: str(tmp_path / "ca.pem"), "RMQ_TLS": "true"})
    assert problem.startswith(f"{variable} must be ")
    assert problem.endswith("it holds no certificate in PEM")


def test_a_certificate_without_its_key_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("certificate")
    variables = {"RMQ_TLS": "true", "RMQ_CERT_FILE": str(tmp_path / "cert.pem")}
    assert problems_of(variables) == ("RMQ_CERT_FILE and RMQ_KEY_FILE must be set together",)


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"secret\n", "secret"), (b"two\r\n", "two"), (b"two\n\n", "two\n"), (b" s#$'\" ", " s#$'\" "), ("pä\n".encode(), "pä")],
)
def test_a_secret_s_file_counts_less_one_line_end(tmp_path: Path, content: bytes, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    config = Config.from_mapping(REQUIRED | {"RMQ_PASS": "", "RMQ_PASS_FILE": str(file)})
    assert config.rmq is not None
    assert config.rmq.password.read() == password


def test_a_secret_s_file_is_read_again_each_time(tmp_path: Path) -> None:
    secret = Secret(file=str(tmp_path / "password"), variable="RMQ_PASS_FILE")
    (tmp_path / "password").write_text("old")
    assert secret.read() == "old"
    (tmp_path / "password").write_text("new")
    assert secret.read() == "new"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_secret_s_file_that_holds_none_is_a_problem(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    (problem,) = problems_of({"MYSQL_PASSWORD": "", "MYSQL_PASSWORD_FILE": str(file)})
    assert problem.startswith("MYSQL_PASSWORD_FILE must name a file that holds the password: ")


def test_both_forms_of_a_secret_at_once_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    variables = {"RMQ_PASS_FILE": str(tmp_path / "password")}
    assert problems_of(variables) == ("RMQ_PASS and RMQ_PASS_FILE must not both be set",)


def test_nothing_prints_a_secret() -> None:
    config = Config.from_mapping(REQUIRED | {"NETBEAM_URL": "https://me:url-secret@host:8443/api"})
    assert "secret" not in repr(config) + str(config) + config.netbeam_url_shown
    assert config.netbeam_url_shown == "https://***@host:8443/api"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RMQ_PASSWORD", "RMQ_PASS"),
        ("RMQ_HOSTS", "RMQ_HOST"),
        ("MYSQL_PASS", "MYSQL_PASSWORD"),
        ("MYSQL_DB", "MYSQL_DATABASE"),
        ("STARDUST_HOST", "STARDUST_URL"),
        ("NETBEAM_HOST", "NETBEAM_URL"),
        ("NETBEAM_TIMEOUTS", "NETBEAM_TIMEOUT"),
        ("POLL_INTERVALL", "POLL_INTERVAL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("STARDUST_PASS", "STARDUST_PASSWORD"),
    ],
)
def test_a_misspelt_variable_is_a_warning_with_the_nearest_right_one(name: str, nearest: str) -> None:
    (warning,) = Config.from_mapping(REQUIRED | {name: "x"}).warnings
    assert warning.startswith(f"{name} is not an option")
    assert warning.endswith(f"did you mean {nearest}?")


@pytest.mark.parametrize("name", ["MYSQL_ROOT_PASSWORD", "MYSQL_ROOT_HOST", "PATH", "HTTPS_PROXY", "METRICS_PATH", "LOG_FILE"])
def test_what_is_not_ours_draws_no_warning(name: str) -> None:
    assert Config.from_mapping(REQUIRED | {name: "x"}).warnings == ()


def test_a_misspelt_variable_is_named_beside_the_one_that_is_missing_for_it() -> None:
    problems = problems_of({"RMQ_HOST": "", "RMQ_HOTS": "broker"})
    assert [problem.split()[0] for problem in problems] == ["RMQ_HOST", "RMQ_HOTS"]


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = from_file(tmp_path, "POLL_INTERVAL=60\nSETTLE_DELAY=30\n", REQUIRED | {"POLL_INTERVAL": "120", "SETTLE_DELAY": ""})
    assert (config.poll_interval_s, config.settle_delay_s) == (120, 30)


@pytest.mark.parametrize("name", ["RMQ_USER", "rmq-user", "rmq_user", "Rmq-User"])
def test_spellings_of_one_name_are_one_setting(tmp_path: Path, name: str) -> None:
    others = {key: value for key, value in REQUIRED.items() if key != "RMQ_USER"}
    for config in (load("/dev/null", environ=others | {name: "joe"}), from_file(tmp_path, f"{name} = joe\n", others)):
        assert config.rmq is not None
        assert config.rmq.user == "joe"


def test_a_setting_that_stands_twice_in_a_file_is_a_warning_and_the_last_counts(tmp_path: Path) -> None:
    config = from_file(tmp_path, "RMQ_USER=first\nPOLL_INTERVAL=60\nrmq-user=second\n", REQUIRED | {"RMQ_USER": ""})
    assert config.rmq is not None
    assert config.rmq.user == "second"
    (warning,) = config.warnings
    assert warning.endswith(": RMQ_USER (line 1) and rmq-user (line 3) are the same setting: line 3 counts")


def test_the_exact_name_wins_over_the_same_in_another_spelling() -> None:
    rmq = load("/dev/null", environ=REQUIRED | {"RMQ_USER": "exact", "rmq_user": "other", "rmq-user": "third"}).rmq
    assert rmq is not None
    assert rmq.user == "exact"


def test_the_file_of_the_older_documentation_works_as_it_is(tmp_path: Path) -> None:
    config = from_file(tmp_path, OLDER_FILE, {})
    assert config.rmq is not None
    assert config.mysql is not None
    assert (config.rmq.hosts, config.rmq.port, config.rmq.user) == (("broker.example",), 5673, "username")
    assert (config.rmq.password.read(), config.mysql.password.read()) == ("password", "sql")
    assert config.warnings == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, encoding: str, line_end: str) -> None:
    config = from_file(tmp_path, OLDER_FILE.replace("username", "üser").replace("\n", line_end).encode(encoding), {})
    assert config.rmq is not None
    assert config.rmq.user == "üser"


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("'a#b $HOME ${HOME} \"c\" `d` %e'", "a#b $HOME ${HOME} \"c\" `d` %e"),
        (r"'back\slash \\ \n'", r"back\slash \\ \n"),
        (r"'it\'s'", "it's"),
        (r"'ends in \\'  # comment", r"ends in \\"),
        ("' spaces '", " spaces "),
        ("a#b$c=d", "a#b$c=d"),
        ("#hash", "#hash"),
        ("un quoted  # comment", "un quoted"),
        (r'"tab\there, \"quoted\", $HOME"', 'tab\there, "quoted", $HOME'),
        ("don't", "don't"),
    ],
)
def test_nothing_in_a_file_is_expanded(tmp_path: Path, text: str, password: str) -> None:
    others = {key: value for key, value in REQUIRED.items() if key != "RMQ_PASS"}
    for line in (f"RMQ_PASS={text}\n", f"export RMQ_PASS={text}"):
        config = from_file(tmp_path, line, others)
        assert config.rmq is not None
        assert config.rmq.password.read() == password


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("RMQ_USER=a\n\n# comment\nRMQ_PASS='open\nRMQ_VHOST=/\n", [4]),
        ("RMQ_PASS='open\nRMQ_USER=a\nRMQ_VHOST='\n", [1]),
        ("\n\nRMQ_PASS='open\nRMQ_USER=a\nRMQ_VHOST='/'\nRMQ_HOST\n", [3, 6]),
        ("RMQ_PASS='it's'\r\nnothing\r\nRMQ_PASS=\"x\" y\r\n", [1, 2, 3]),
        ("=x\n[rabbitmq\nrmq user = x\n", [1, 2, 3]),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, content: str, lines: list[int]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_file(tmp_path, content)
    path = tmp_path / "settings.env"
    found = [re.match(re.escape(str(path)) + r" line (\d+) cannot be read", problem) for problem in caught.value.problems]
    assert [int(each[1]) for each in found if each] == lines
    assert len(found) == len(lines)


def test_a_line_that_cannot_be_read_is_in_one_report_with_other_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_file(tmp_path, "nonsense\nPOLL_INTERVAL=0\n")
    assert [problem.split(" (")[0] for problem in caught.value.problems] == [
        f"{tmp_path}/settings.env line 1 cannot be read: it should be NAME=value", "POLL_INTERVAL",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"RMQ_USER=a\nRMQ_PASS=\xe4\n", "RMQ_USER=ä".encode("utf-16")])
def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"settings\.env line \d is not UTF-8 text"):
        from_file(tmp_path, content)


def test_a_named_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    for name in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigurationError, match=f"{re.escape(str(name))} cannot be read: (No such file|Is a directory)"):
            load(str(name), environ=REQUIRED)


def test_the_file_beside_the_program_is_read_only_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".env"
    assert env_file.DEFAULT_FILE == TOP / ".env"
    monkeypatch.setattr(env_file, "DEFAULT_FILE", path)
    assert env_file.gather({}).file is None
    path.write_text("RMQ_USER=joe")
    assert env_file.gather({}).values == {"RMQ_USER": "joe"}
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="Is a directory"):
        env_file.gather({})


def test_nothing_set_at_all_says_where_settings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_file, "DEFAULT_FILE", tmp_path / ".env")
    with pytest.raises(ConfigurationError, match=r"--env-file \.env to docker run"):
        load(environ={})


def test_a_problem_names_where_the_variable_was_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_file(tmp_path, "\nPOLL_INTERVAL=0\n", REQUIRED | {"METRICS_PORT": "x"})
    assert caught.value.problems[0].startswith(f"POLL_INTERVAL ({tmp_path}/settings.env line 2) must be")
    assert caught.value.problems[1].startswith("METRICS_PORT (environment) must be")


def test_quotes_around_a_value_of_the_environment_draw_a_warning(tmp_path: Path) -> None:
    config = load("/dev/null", environ=REQUIRED | {"RMQ_PASS": "'quoted'", "RMQ_USER": "it's"})
    assert [warning.split()[0] for warning in config.warnings] == ["RMQ_PASS"]
    assert config.rmq is not None
    assert config.rmq.password.read() == "'quoted'"
    assert from_file(tmp_path, "RMQ_EXCHANGE='quoted'").warnings == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MYSQL_PORT", "tcp://10.0.0.1:3306"),
        ("METRICS_PORT", "udp://10.0.0.1:53"),
        ("RMQ_SERVICE_HOST", "10.0.0.1"),
        ("RMQ_SERVICE_PORT", "5672"),
        ("RMQ_SERVICE_PORT_AMQP", "5672"),
        ("RMQ_PORT_5672_TCP", "tcp://10.0.0.1:5672"),
        ("RMQ_PORT_5672_TCP_ADDR", "10.0.0.1"),
        ("MYSQL_PRIMARY_PORT", "tcp://10.0.0.1:3306"),
    ],
)
def test_what_kubernetes_sets_for_a_service_counts_as_not_set(tmp_path: Path, name: str, value: str) -> None:
    config = from_file(tmp_path, "", REQUIRED | {name: value})
    assert config == Config.from_mapping(REQUIRED)
    assert config.warnings == ()


def test_a_file_s_port_counts_beside_kubernetes_links(tmp_path: Path) -> None:
    mysql = from_file(tmp_path, "MYSQL_PORT=3307\n", REQUIRED | {"MYSQL_PORT": "tcp://10.0.0.1:3306"}).mysql
    assert mysql is not None
    assert mysql.port == 3307


@pytest.mark.parametrize("name", ["RMQ_USER", "RMQ_PASS", "RMQ_VHOST", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE"])
def test_a_line_end_at_the_end_of_a_text_draws_a_warning_and_stays(name: str) -> None:
    (warning,) = Config.from_mapping(REQUIRED | {name: "x\n"}).warnings
    assert warning.startswith(f"{name} ends with a line end")
    rmq = Config.from_mapping(REQUIRED | {"RMQ_VHOST": "x\r\n"}).rmq
    assert rmq is not None
    assert rmq.vhost == "x\r\n"


def test_a_second_line_end_in_a_secret_s_file_draws_the_same_warning(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n\n")
    (warning,) = Config.from_mapping(REQUIRED | {"RMQ_PASS": "", "RMQ_PASS_FILE": str(tmp_path / "password")}).warnings
    assert warning.startswith("RMQ_PASS_FILE ends with a line end")


@pytest.mark.parametrize("kind", ["a pipe that nobody writes to", "a device without an end", "longer than 64 kB"])
def test_only_small_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    if kind.startswith("a pipe"):
        os.mkfifo(file)
    elif kind.startswith("a device"):
        file.symlink_to("/dev/zero")
    else:
        file.write_bytes(b"x" * 65_537)
    (problem,) = problems_of({"RMQ_PASS": "", "RMQ_PASS_FILE": str(file)})
    assert problem.startswith("RMQ_PASS_FILE must name a file")
    with pytest.raises(ConfigurationError, match=r"file cannot be read: it is (no regular file|longer than 65,536 bytes)"):
        load(str(file), environ=REQUIRED)
    if not kind.startswith("longer"):  # a bundle of certificates may be
        assert problems_of({"MYSQL_CA_FILE": str(file)})[0].endswith("it is no regular file")


@pytest.mark.parametrize("blanks", [" " * 60_000, " \t" * 30_000])
def test_line_of_spaces_is_named_before_the_parser_takes_seconds_for_it(tmp_path: Path, blanks: str) -> None:
    (tmp_path / "file").write_text(f"RMQ_USER=user\rRMQ_HOST=a{blanks}x\n")
    with pytest.raises(ConfigurationError, match=r"file line 2 cannot be read: a thousand spaces in a row"):
        load(str(tmp_path / "file"), environ=REQUIRED)


def test_example_file_shows_every_option_with_its_meaning_and_its_default() -> None:
    lines = (TOP / ".env.example").read_text("utf-8").splitlines()
    shown = {line.lstrip("#").partition("=")[0]: at for at, line in enumerate(lines) if re.match("#?[A-Z_]+=", line)}
    assert set(shown) == {option.name for option in OPTIONS} | {"MYSQL_ROOT_PASSWORD"}
    for option in OPTIONS:
        at = shown[option.name]
        assert lines[at - 1] == f"# {option.meaning}"
        assert lines[at].lstrip("#") == f"{option.name}={option.default}"
        assert not option.required or not lines[at].startswith("#")


def test_example_file_works_when_the_empty_lines_are_filled_in(tmp_path: Path) -> None:
    example = (TOP / ".env.example").read_text("utf-8")
    everything = re.sub("^#([A-Z_]+=)", r"\1", example, flags=re.MULTILINE)
    assert from_file(tmp_path, example) == from_file(tmp_path, everything) == Config.from_mapping(REQUIRED)
