"""What a user would otherwise pick, on the same work: `python -m tests.bench.rivals forget|confirm|get FILE`.

`forget`: serial requests and a BlockingConnection without confirms, as in the script that is in use today; `confirm`: the
same, each message confirmed; `get`: the floor's part of it, a bare GET and `json.loads` for each window and nothing else.
Prints seconds, CPU, and how much work was done.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any

import pika
import requests

from tests.bench.work import EXCHANGE, TRAFFIC_KEY, Request, connection_parameters, properties, read_requests


def publish_serially(work: Sequence[Request], *, confirm: bool) -> int:
    """Ask, publish point after point, ask again; returns how many messages."""
    session = requests.Session()
    connection = pika.BlockingConnection(connection_parameters())
    channel = connection.channel()
    if confirm:
        channel.confirm_delivery()
    count = 0
    for each in work:
        answer = session.get(each.url, timeout=30)
        for message_id, body in messages_of(each, answer.json()["points"]):
            channel.basic_publish(EXCHANGE, TRAFFIC_KEY, body, properties(message_id), mandatory=confirm)
            count += 1
    connection.close()
    return count


def messages_of(request: Request, points: Sequence[Sequence[Any]]) -> list[tuple[str, bytes]]:
    """Id and body of each point, made as one makes them."""
    made = []
    for at, into, out in points:
        message = {"name": request.name, "recordType": request.record_type, "timestamp": at, "in": into, "out": out}
        identity = sha1(f"{request.name}{request.record_type}{at}".encode(), usedforsecurity=False).hexdigest()
        made.append((identity, json.dumps(message).encode()))
    return made


def get_only(work: Sequence[Request]) -> int:
    """A bare GET and `json.loads` for each; returns how many points came."""
    session = requests.Session()
    return sum(len(json.loads(session.get(each.url, timeout=30).content)["points"]) for each in work)


KINDS: dict[str, Callable[[Sequence[Request]], int]] = {
    "forget": lambda work: publish_serially(work, confirm=False),
    "confirm": lambda work: publish_serially(work, confirm=True),
    "get": get_only,
}


def main() -> int:
    """Run one."""
    work = read_requests(sys.argv[2])
    began, cpu_s = time.monotonic(), time.process_time()
    messages = KINDS[sys.argv[1]](work)
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    print(json.dumps({"windows": len(work), "messages": messages, "seconds": seconds, "cpu_s": cpu_s}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
