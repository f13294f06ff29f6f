"""aiohttp with aio-pika on the same work, with confirms: `python tests/bench/rival_async.py FILE CONCURRENCY`.

Runs in a virtual environment of its own, and so imports nothing from here.
"""

import asyncio
import json
import os
import re
import sys
import time
from hashlib import sha1
from pathlib import Path
from typing import Any

import aio_pika  # type: ignore[import-not-found, unused-ignore]
import aiohttp  # type: ignore[import-not-found, unused-ignore]
from yarl import URL  # type: ignore[import-not-found, unused-ignore]


async def _work(queue: "asyncio.Queue[dict[str, str]]", session: Any, exchange: Any) -> int:
    count = 0
    while not queue.empty():
        each = queue.get_nowait()
        async with session.get(URL(each["url"], encoded=True)) as answer:
            points = json.loads(await answer.read())["points"]
        await asyncio.gather(*(exchange.publish(_message(each, *point), "esnet_traffic") for point in points))
        count += len(points)
    return count


def _message(request: dict[str, str], at: int, into: Any, out: Any) -> Any:
    body = {"name": request["name"], "recordType": request["record_type"], "timestamp": at, "in": into, "out": out}
    identity = sha1(f"{request['name']}{request['record_type']}{at}".encode(), usedforsecurity=False).hexdigest()
    return aio_pika.Message(
        json.dumps(body).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=identity,
        app_id="esnet-collector",
    )


async def _run(path: str, concurrency: int) -> dict[str, float]:
    queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    for each in json.loads(Path(path).read_text()):
        queue.put_nowait(each)
    windows = queue.qsize()
    connection = await aio_pika.connect_robust(
        host=os.environ["RMQ_HOST"],
        port=int(os.environ["RMQ_PORT"]),
        login=os.environ["RMQ_USER"],
        password=os.environ["RMQ_PASS"],
        virtualhost=os.environ["RMQ_VHOST"],
    )
    began, cpu_s = time.monotonic(), time.process_time()
    async with connection, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange("osg.psdata.raw", ensure=False)
        counts = await asyncio.gather(*(_work(queue, session, exchange) for _ in range(concurrency)))
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    peak_mib = int(peak[1]) / 1024 if peak else 0.0
    return {"windows": windows, "messages": sum(counts), "seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak_mib}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(sys.argv[1], int(sys.argv[2])))))
