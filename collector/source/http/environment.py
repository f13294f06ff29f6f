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


def pool(url: str, scheme: str, concurrency: int) -> tuple[HTTPConnectionPool, bool]:
    """As many connections to the URL's server as may be asked at once, and whether they lead to a proxy that takes whole URLs.

    Raises ConfigurationError, which names the variable and never shows its value: it may hold a password.
    """
    # asked for the environment's proxies and CA bundle only: a session that sends reads ~/.netrc
    settings = requests.Session().merge_environment_settings(url, {}, None, None, None)
    proxy = _usable(select_proxy(url, settings["proxies"]), scheme)
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
    return connections, bool(proxy) and scheme == "http"


def _usable(proxy: str | None, scheme: str) -> str | None:
    if not proxy:
        return None
    variable = _variable(proxy, scheme)
    try:
        parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except (HTTPError, ValueError):
        raise ConfigurationError(f"{variable} is no URL; odd characters of a user or password are percent-encoded") from None
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{variable} is a {printable(parts.scheme, 20)} proxy; only http and https ones can be used")
    if not parts.host or parts.port == 0:
        raise ConfigurationError(f"{variable} is no URL with a host, such as http://proxy:3128")
    return parts.url


def _variable(proxy: str, scheme: str) -> str:
    names = (f"{scheme}_proxy", "all_proxy")
    return next((name for name, value in os.environ.items() if value == proxy and name.lower() in names), names[0].upper())


def _bundle_variable() -> str:
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((name for name in names if os.environ.get(name)), names[0])
