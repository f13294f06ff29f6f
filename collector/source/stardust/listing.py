"""Interface objects, as Netbeam had them, from what Stardust's documents say of an interface."""

from typing import Any

from collector.core.model import JsonObject
from collector.source.stardust.identity import resource_of, shown

NAMESPACE = "esnet/prod"
PORT_MODES = {1: "access", 2: "network", 3: "hybrid"}
MOST_VLAN = 4094


def interface_of(identity: object, meta: object) -> JsonObject | str:
    """The object of one interface, or a line that says why there is none.

    What flaps from document to document (a status, counters) is not in it: each change is a message.
    """
    resource, fault, device, name = resource_of(identity)
    if resource is None:
        return f"entry {shown(identity)}: {fault}"
    words = _words(field(meta, "descr_parts"))
    vlan = _whole(first(field(meta, "vrtr_ifencapvalue")))
    ifindex = first(field(meta, "ifindex"))
    return {
        "namespace": NAMESPACE,
        "resource": resource,
        "name": name,
        "device": device,
        "ifIndex": None if ifindex is None or isinstance(ifindex, bool) else str(ifindex),
        "description": first(field(meta, "descr")) or first(field(meta, "alias")),
        "speed": first(field(meta, "speed")) or None,
        "vlan": vlan if vlan is not None and 1 <= vlan <= MOST_VLAN else None,
        "port": first(field(meta, "port_name")),
        "nokiaType": PORT_MODES.get(_whole(first(field(meta, "port_mode"))) or 0),
        "visibility": next((each.upper() for each in words if each in ("show", "hide")), None),
        "connection": None,
        "link": None,
        "tags": [],
        "sector": None,
        "site": None,
        "lhcone": None,
        "oscars": first(field(meta, "oscars_id")) is not None,
        "intercloud": first(field(meta, "intercloud")),
        "intracloud": "intracloud" in words,
        "remoteDevice": first(field(meta, "remote.device")),
        "remotePort": first(field(meta, "remote.port")),
        "ipv4": first(field(meta, "ipv4")),
    }


def field(document: object, path: str) -> Any:
    """A field by its path, whether its document is nested or has names with dots; None where there is none."""
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    parts = path.split(".")
    for count in range(1, len(parts)):
        head = ".".join(parts[:count])
        if head in document:
            return field(document[head], ".".join(parts[count:]))
    return None


def first(value: Any) -> Any:
    """The value itself, of a list the first one; nothing in place of an empty text and of an object."""
    values = value if isinstance(value, list) else [value]
    return next((each for each in values if isinstance(each, str | int | float) and each != ""), None)


def _words(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else value.split(":") if isinstance(value, str) else []
    return [each.strip().casefold() for each in parts if isinstance(each, str)]


def _whole(value: Any) -> int | None:
    """An integer, or the text of one."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
    return int(value) if type(value) in (int, float) and value == value // 1 else None
