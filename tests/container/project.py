"""Copies of the project, so that the `.env` of whoever works here is never touched."""

import secrets
import shutil
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PARTS = (
    "Dockerfile", ".dockerignore", "docker-compose.yml", ".env.local",
    "requirements.txt", "esnet_collector.py", "collector", "sql",
)  # fmt: skip
MARKER = f"marker-{secrets.token_hex(16)}"
"""Stands in every file that must not get into the image."""
SECRET_FILES = (".env", "collector/.env", "collector/password.txt", "sql/.env", "secrets/rmq_pass", "server.key")


def copy_project(directory: Path) -> Path:
    """Copy what containers are made from, with the modes of a clone made with umask 077."""
    directory.mkdir(parents=True)
    for part in PARTS:
        if (TOP / part).is_dir():
            shutil.copytree(TOP / part, directory / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(TOP / part, directory / part)
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory


def strew_secrets(directory: Path) -> None:
    """Put secrets where somebody might keep them."""
    for name in SECRET_FILES:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(f"RMQ_PASS={MARKER}\n")


def lines(settings: dict[str, str]) -> str:
    """Settings as `.env` holds them."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())
