"""What a user would otherwise pick to read an index: `opensearch-py`'s scan over the time range, and pika.

    python -m tests.bench.rival_scan URL BEGIN_MS END_MS

Pages of 1,000 by scroll, each document's three record types published one after the other by a BlockingConnection, fire and
forget. Prints seconds, CPU, and how much work was done.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from hashlib import sha1
from typing import Any
from urllib.parse import quote

import pika
from opensearchpy import OpenSearch  # type: ignore[import-not-found, unused-ignore]
from opensearchpy.helpers import scan  # type: ignore[import-not-found, unused-ignore]

EXCHANGE, TRAFFIC_KEY = "osg.psdata.raw", "esnet_traffic"
INDEX = "sd_public_interfaces"
PAGE = 1000
UNITS = {"traffic": "bits", "errors": "errors", "discards": "discards"}


def messages_of(source: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Id and body of each of a document's points, made as one makes them."""
    device, _, port = source["meta"]["id"].partition("::")
    name, values = f"devices/{device}/interfaces/{quote(port, safe='')}", source["values"]
    for record_type, unit in UNITS.items():
        figure = "rate" if unit == "bits" else "delta"
        into, out = (values.get(f"{side}_{unit}", {}).get(figure) for side in ("in", "out"))
        message = {"name": name, "recordType": record_type, "timestamp": source["start"], "in": into, "out": out}
        identity = sha1(f"{name}{record_type}{source['start']}".encode(), usedforsecurity=False).hexdigest()
        yield identity, json.dumps(message).encode()


def properties(message_id: str) -> pika.BasicProperties:
    """Of a traffic message."""
    return pika.BasicProperties("application/json", delivery_mode=2, message_id=message_id, app_id="esnet-collector")


def main() -> int:
    """Run it; where to publish is in the collector's own variables."""
    url, begin_ms, end_ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    began, cpu_s, documents, count = time.monotonic(), time.process_time(), 0, 0
    where = os.environ["RMQ_HOST"], int(os.environ["RMQ_PORT"]), os.environ["RMQ_VHOST"]
    credentials = pika.PlainCredentials(os.environ["RMQ_USER"], os.environ["RMQ_PASS"])
    connection = pika.BlockingConnection(pika.ConnectionParameters(*where, credentials, heartbeat=0))
    channel = connection.channel()
    query = {"query": {"range": {"start": {"gte": begin_ms, "lt": end_ms}}}}
    for hit in scan(OpenSearch(url, timeout=60), index=INDEX, query=query, size=PAGE):
        documents += 1
        for identity, body in messages_of(hit["_source"]):
            channel.basic_publish(EXCHANGE, TRAFFIC_KEY, body, properties(identity))
            count += 1
    connection.close()
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"documents": documents, "messages": count, "seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak_mib}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
