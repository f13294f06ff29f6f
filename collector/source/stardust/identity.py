"""Which interface of Stardust is which row of the table: `device::name` there, a path such as Netbeam's here."""

from urllib.parse import quote, unquote

from collector.core.model import resource_fault
from collector.core.text import printable

_INTERFACES = "/interfaces/"


def resource_of(identity: object) -> tuple[str | None, str | None, str, str]:
    """The resource, or why there is none; and device and name, split at the first `::`."""
    if not isinstance(identity, str):
        return None, f"id is {type(identity).__name__}, not text", "", ""
    device, found, name = identity.partition("::")
    if not found:
        return None, "id without ::", "", ""
    try:
        resource = f"devices/{device}{_INTERFACES}{quote(name, safe='')}"
    except UnicodeEncodeError:
        return None, "id that is no valid Unicode", "", ""
    fault = resource_fault(resource)
    return (None if fault else resource), fault, device, name


def id_of(resource: str) -> str | None:
    """`device::name` of a resource; None for one that Stardust cannot have, such as a row that was made by hand."""
    path, found, name = resource.rpartition(_INTERFACES)
    if not found or not path.startswith("devices/"):
        return None
    try:
        return f"{path.removeprefix('devices/')}::{unquote(name, errors='strict')}"
    except UnicodeDecodeError:
        return None


def shown(identity: object) -> str:
    """An id for a log line."""
    return repr(printable(identity, 80))
