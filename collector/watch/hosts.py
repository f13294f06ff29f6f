"""Under which names the page may be asked for. Were others answered, a web site could read the page through its visitors'
browsers, by letting its own name lead here (DNS rebinding)."""

import ipaddress
import socket
import threading
from collections.abc import Iterable, Sequence


class KnownHosts:
    """Addresses, `localhost`, this machine's own name and those that are configured; safe to use from every thread."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_plain(each) for each in ("localhost", socket.gethostname(), *names)}
        # its full name may be a name server's to tell, and that may take long
        threading.Thread(target=self._look_up, name="own name", daemon=True).start()

    def _look_up(self) -> None:
        self._names.add(_plain(socket.getfqdn()))

    def known(self, hosts: Sequence[str]) -> bool:
        """Whether a request with these `Host` headers is answered; HTTP/1.0 needs none, a browser sends exactly one."""
        return not hosts or (len(hosts) == 1 and self._known(_plain(_without_port(hosts[0]))))

    def _known(self, host: str) -> bool:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return True


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(".")


def _without_port(host: str) -> str:
    """`[::1]:8000`, `name:8000`, or either without the port."""
    host = host.strip()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
