"""Every option, declared once: its name, its default, which values it takes and what it means."""

from dataclasses import dataclass

from collector.config.kinds import (
    BARE_URL,
    BASIC_USER,
    BOOLEAN,
    CERTIFICATES,
    DATABASE,
    HOST,
    HOSTS,
    INDEX,
    PASSWORD,
    PORT,
    RATE,
    READABLE_FILE,
    RECORD_TYPES,
    SHARE,
    SHORT_TEXT,
    SPAN,
    TEN_YEARS_S,
    TEXT,
    URL,
    Kind,
    number,
    whole,
    word,
)
from collector.core.model import RecordType

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Option:
    """One variable. `default` is as one would write it in the file; empty when there is none."""

    name: str
    default: str
    kind: Kind
    meaning: str
    required: bool = False
    with_stardust: str = ""
    """The default with SOURCE=stardust where that is another one."""


SOURCE_OPTION = Option("SOURCE", "netbeam", word("netbeam", "stardust"), "where all comes from: netbeam or stardust")
NETBEAM_OPTIONS = (
    Option("NETBEAM_URL", "https://esnet-netbeam.appspot.com/api/network/esnet/prod", URL, "Netbeam's base URL, http or https"),
    Option("NETBEAM_CONCURRENCY", "16", whole(1, 256), "requests to Netbeam at once, at the most (1 to 256)"),
    Option("NETBEAM_RATE", "0", RATE, "requests to Netbeam a second, at the most; 0: no limit"),
    Option("NETBEAM_TIMEOUT", "30", number(0, DAY_S, above=True), "seconds for one whole answer of Netbeam (over 0)"),
)
STARDUST_OPTIONS = (
    Option("STARDUST_URL", "https://el.gc1.prod.stardust.es.net:9200", BARE_URL, "Stardust's base URL, http or https"),
    Option("STARDUST_INDEX", "sd_public_interfaces", INDEX, "the index, or its alias, that holds the interfaces' measurements"),
    Option("STARDUST_USER", "", BASIC_USER, "Stardust's user, where it wants one; together with its password"),
    Option("STARDUST_PASSWORD", "", PASSWORD, "Stardust's password; or STARDUST_PASSWORD_FILE"),
    Option("STARDUST_PASSWORD_FILE", "", TEXT, "a file that holds Stardust's password, read again for each query"),
    Option("STARDUST_TIMEOUT", "60", number(0, DAY_S, above=True), "seconds for one whole answer of Stardust (over 0)"),
    Option("STARDUST_CONCURRENCY", "4", whole(1, 32), "queries to Stardust at once, at the most (1 to 32)"),
)
CYCLE_OPTIONS = (
    Option("RECORD_TYPES", ",".join(RecordType), RECORD_TYPES, "which record types to collect"),
    Option("POLL_INTERVAL", "900", number(1, TEN_YEARS_S), "seconds from one cycle to the next (from 1)"),
    Option(
        "SETTLE_DELAY", "900", SPAN,
        "seconds that the source gets to complete its data (from 0); if not set 1800 with Stardust", with_stardust="1800",
    ),
    Option(
        "INITIAL_LOOKBACK", "1800", SPAN,
        "seconds that a new interface is collected back from its first listing (from 0); if not set 3600 with Stardust",
        with_stardust="3600",
    ),
    Option("MAX_WINDOW", "172800", number(60, TEN_YEARS_S), "seconds that one request asks for, at the most (from 60)"),
    Option("MAX_BACKLOG", "2592000", SPAN, "seconds that are caught up with after a long stop, at the most; 0: no limit"),
    Option("IDLE_BACKOFF", "3600", SPAN, "seconds between requests for a series without points, at the most; 0: all are asked"),
    Option("LATE_DATA", "86400", SPAN, "seconds that points may come later than others; no silence is believed before (from 0)"),
    Option("MAX_RETIRED_SHARE", "0.2", number(0, 1), "share of the interfaces that one listing alone may retire (0 to 1)"),
    Option("INTERFACE_SNAPSHOT_INTERVAL", "86400", SPAN, "seconds from one sending of all interfaces to the next (from 0)"),
    Option("SHARD", "1/1", SHARE, "k/n: this collector works on the k-th of n shares of the interfaces (n up to 1000)"),
)  # fmt: skip
MESSAGE_OPTIONS = (
    Option("RMQ_EXCHANGE", "osg.psdata.raw", SHORT_TEXT, "the exchange that messages go to"),
    Option("RMQ_INTERFACE_KEY", "esnet_interfaces", SHORT_TEXT, "routing key of the interfaces"),
    Option("RMQ_TRAFFIC_KEY", "esnet_traffic", SHORT_TEXT, "routing key of the points, of all record types"),
)
RABBIT_OPTIONS = (
    Option("RMQ_HOST", "", HOSTS, "RabbitMQ's host; several of one cluster, by commas, are tried in random order", required=True),
    Option("RMQ_PORT", "", PORT, "RabbitMQ's port; if not set 5672, and 5671 with TLS"),
    Option("RMQ_USER", "", TEXT, "RabbitMQ's user", required=True),
    Option("RMQ_PASS", "", PASSWORD, "RabbitMQ's password; or RMQ_PASS_FILE", required=True),
    Option("RMQ_PASS_FILE", "", TEXT, "a file that holds RabbitMQ's password, read again at each connect"),
    Option("RMQ_VHOST", "/", SHORT_TEXT, "RabbitMQ's vhost"),
    Option("RMQ_TLS", "false", BOOLEAN, "true: TLS, with the broker's certificate verified"),
    Option("RMQ_CA_FILE", "", CERTIFICATES, "certificates to verify the broker with; if not set, the system's"),
    Option("RMQ_CERT_FILE", "", READABLE_FILE, "our own certificate, together with RMQ_KEY_FILE"),
    Option("RMQ_KEY_FILE", "", READABLE_FILE, "the key of our own certificate"),
    Option("RMQ_MANDATORY", "true", BOOLEAN, "false: the broker drops messages that no queue takes, and that is fine"),
    Option("RMQ_DECLARE", "false", BOOLEAN, "true: declare a durable topic exchange if there is none"),
)
MYSQL_OPTIONS = (
    Option("MYSQL_HOST", "esnet_db", HOST, "MySQL's host: the primary, not a balancer"),
    Option("MYSQL_PORT", "3306", PORT, "MySQL's port"),
    Option("MYSQL_DATABASE", "esnet", DATABASE, "the database that holds the table"),
    Option("MYSQL_USER", "esnet_user", TEXT, "MySQL's user"),
    Option("MYSQL_PASSWORD", "", PASSWORD, "MySQL's password; or MYSQL_PASSWORD_FILE", required=True),
    Option("MYSQL_PASSWORD_FILE", "", TEXT, "a file that holds MySQL's password, read again at each connect"),
    Option("MYSQL_CA_FILE", "", CERTIFICATES, "certificates to verify MySQL with; if set, TLS is demanded"),
    Option("MYSQL_TRUST_SERVER", "false", BOOLEAN, "true: a server that is not verified may get the password itself, over TLS"),
)
WATCHING_OPTIONS = (
    Option("METRICS_PORT", "8000", whole(0, 65_535), "port of /metrics, /healthz, /livez and the page; 0: none"),
    Option("METRICS_HOST", "127.0.0.1", HOST, "address that the port is opened on (0.0.0.0 in the image)"),
    Option("METRICS_HOSTS", "", HOSTS, "names of the page's host, by commas, besides addresses, localhost and the machine's own"),
    Option("LOG_LEVEL", "INFO", word("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "the least level that is logged"),
    Option("LOG_FORMAT", "text", word("text", "json"), "text, or json: one object a line"),
)
SYSTEM_OPTIONS = {"netbeam": NETBEAM_OPTIONS, "stardust": STARDUST_OPTIONS, "rmq": RABBIT_OPTIONS, "mysql": MYSQL_OPTIONS}
"""By the system: the options that nobody looks at when something else takes its place."""
OPTIONS = (
    SOURCE_OPTION,
    *NETBEAM_OPTIONS,
    *STARDUST_OPTIONS,
    *CYCLE_OPTIONS,
    *MESSAGE_OPTIONS,
    *RABBIT_OPTIONS,
    *MYSQL_OPTIONS,
    *WATCHING_OPTIONS,
)
BY_NAME = {each.name: each for each in OPTIONS}
