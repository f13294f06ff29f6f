"""The proxy and the CA bundle that the environment names, and the pool of connections that they lead to."""

import os
from typing import cast

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from collector.core.errors import ConfigurationError
from collector.core.text import printable
from collector.source.http.connection import PlainConnection, TlsConnection


def pool(url: str, scheme: str, concurrency: int) -> tuple[HTTPConnectionPool, bool, str | None]:
    """As many connections to the URL's server as may be asked at once, and how they get there.

    That is, whether they lead to a proxy that takes whole URLs, and the variable that names the proxy, if there is one.

    Raises ConfigurationError, which names the variable and never shows its value: it may hold a password.
    """
    # asked for the environment's proxies and CA bundle only: a session that sends reads ~/.netrc
    settings = requests.Session().merge_environment_settings(url, {}, None, None, None)
    named = select_proxy(url, settings["proxies"])
    variable = _variable(named, scheme) if named else None
    proxy = _usable(named, variable) if named and variable else None
    proxies = {"all": proxy} if proxy else {}
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=concurrency, pool_block=True)
    bare = requests.Request("GET", url).prepare()
    try:
        made = adapter.get_connection_with_tls_context(bare, settings["verify"], proxies)
        adapter.cert_verify(made, url, settings["verify"], None)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, HTTPError) as error:
        raise ConfigurationError(f"{_bundle_variable()} cannot be used: {settings['verify']}") from error
    connections = cast(HTTPConnectionPool, made)
    connections.ConnectionCls = TlsConnection if scheme == "https" else PlainConnection
    return connections, bool(proxy) and scheme == "http", variable


def _usable(proxy: str, variable: str) -> str:
    try:
        parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except (HTTPError, ValueError):
        raise ConfigurationError(f"{variable} is no URL; {_fault(proxy)}") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{variable} is a {printable(parts.scheme, 20)} proxy; only http and https ones can be used")
    if not parts.host or parts.port == 0:
        raise ConfigurationError(f"{variable} is no URL with a host, such as http://proxy:3128")
    return parts.url


def _fault(proxy: str) -> str:
    """What is wrong with this URL, without a word of it."""
    server = proxy.rpartition("@")[2].rpartition("://")[2].partition("/")[0]
    host, bracket, rest = server.rpartition("]")
    if "[" in server and not (bracket and host.startswith("[") and rest[:1] in ("", ":")):
        return "the brackets of its address are wrong, such as http://[::1]:3128 has them"
    port = rest.rpartition(":")[2] if ":" in rest else ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        return "its port must be a number from 1 to 65535"
    return "odd characters of a user or password are percent-encoded"


def _variable(proxy: str, scheme: str) -> str:
    names = (f"{scheme}_proxy", "all_proxy")
    return next((name for name, value in os.environ.items() if value == proxy and name.lower() in names), names[0].upper())


def _bundle_variable() -> str:
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((name for name in names if os.environ.get(name)), names[0])
