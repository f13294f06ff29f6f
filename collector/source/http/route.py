"""The way to a server: by its URL, and by the proxy and the CA bundle that the environment names."""

import base64
import os
from typing import NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from collector import __version__
from collector.core.errors import ConfigurationError
from collector.core.text import printable
from collector.source.http.connection import PlainConnection, TlsConnection

PATH_CHARACTERS = "%/:@!$&'()*+,;=-._~"
"""What a URL's path may hold besides letters and digits (RFC 3986); % because escapes stay as they came."""

HEADERS = {"User-Agent": f"esnet-collector/{__version__}", "Accept": "application/json", "Accept-Encoding": "gzip"}


class Route(NamedTuple):
    """How requests get to a server."""

    at: str
    """Its host and port."""
    headers: dict[str, str]
    """Of each request."""
    variable: str
    """The setting that has the URL."""
    proxy_variable: str | None
    """The one that names the proxy, if there is one."""
    pool: HTTPConnectionPool
    """As many connections as may be asked at once."""
    pool_url: str
    """What the pool is asked for; each request's own target goes out in its place."""
    prefix: str
    """The beginning of each target: the URL's path, or all of it for a proxy that takes whole URLs."""


def route_to(base_url: str, variable: str, concurrency: int) -> Route:
    """Raises ConfigurationError, which names the setting and never shows its value: it may hold a password."""
    wrong = ConfigurationError(f"{variable} is no http or https URL with a host")
    try:
        parts, split = parse_url(base_url), urlsplit(base_url)
    except (HTTPError, ValueError):
        raise wrong from None  # the error's text has the password
    if parts.scheme not in ("http", "https") or not parts.host or not parts.netloc:
        raise wrong
    url = f"{parts.scheme}://{parts.netloc}/"
    # asked for the environment's proxies and CA bundle only: a session that sends reads ~/.netrc
    settings = requests.Session().merge_environment_settings(url, {}, None, None, None)
    named = select_proxy(url, settings["proxies"])
    proxy_variable = _variable(named, parts.scheme) if named else None
    proxy = _usable(named, proxy_variable) if named and proxy_variable else None
    pool = _pool(url, proxy, settings["verify"], concurrency)
    pool.ConnectionCls = TlsConnection if parts.scheme == "https" else PlainConnection
    headers = {**HEADERS, "Host": parts.netloc}
    if login := split.netloc.rpartition("@")[0]:
        headers |= basic_login(*map(unquote, (login + ":").split(":", 2)[:2]))
    path = quoted_path(split.path.rstrip("/"))
    target = (url, url[:-1] + path) if proxy and parts.scheme == "http" else ("/", path)
    return Route(parts.netloc, headers, variable, proxy_variable, pool, *target)


def basic_login(user: str, password: str) -> dict[str, str]:
    """The header of a Basic login."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def quoted_path(path: str) -> str:
    """As a URL holds it; escapes stay as they came."""
    return quote(path, safe=PATH_CHARACTERS)


def _pool(url: str, proxy: str | None, verify: bool | str | None, concurrency: int) -> HTTPConnectionPool:
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=concurrency, pool_block=True)
    bare = requests.Request("GET", url).prepare()
    try:
        made = adapter.get_connection_with_tls_context(bare, verify, {"all": proxy} if proxy else {})
        adapter.cert_verify(made, url, verify, None)  # type: ignore[no-untyped-call]
        if not os.path.isfile(getattr(made, "ca_certs", None) or __file__):
            raise OSError("a pipe or a device, which may never end")
    except (OSError, ValueError, HTTPError) as error:
        raise ConfigurationError(f"{_bundle_variable()} cannot be used: {verify}") from error
    return cast(HTTPConnectionPool, made)


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
