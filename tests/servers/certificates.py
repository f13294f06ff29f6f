"""Certificates for servers on loopback and their clients, made with openssl, good for two days."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: an authority, what it signed for 127.0.0.1 and for a client, and another authority, that signed nothing."""

    authority: str
    server: str
    server_key: str
    client: str
    client_key: str
    stranger: str


def make_certificates(directory: Path) -> Certificates:
    """Make them in this directory."""
    for name in ("authority", "stranger"):
        _openssl(directory, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem")
    for name in ("server", "client"):
        (directory / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        _openssl(directory, f"req -new -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        signing = "-CA authority.pem -CAkey authority.key -CAcreateserial"
        _openssl(directory, f"x509 -req -in {name}.csr {signing} -days 2 -extfile {name}.ext -out {name}.pem")
    files = ("authority.pem", "server.pem", "server.key", "client.pem", "client.key", "stranger.pem")
    return Certificates(*(str(directory / name) for name in files))


def _openssl(directory: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)
