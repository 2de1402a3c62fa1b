"""What JSON Schema can't say well: rules between fields, and the sizes of payloads.

Each rule looks at an object of any shape and says nothing about parts that are of the wrong type:
the schema has complained about those. Paths and wording are as the schema's.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from api.schema import deliveries
from api.schema.parts import block as _block
from api.schema.parts import items as _items
from api.schema.parts import texts as _texts
from api.schema.problem import Code, Path, Problem, quoted
from api.schema.secrets import cron_problems, has_system_values, system_values
from api.types.quantity import parse_bytes, parse_cpus
from api.types.secret import CONFIG_MAX_BYTES, SECRET_MAX_BYTES

# SwarmKit's least amounts (manager/controlapi/service.go): below them containers do not start.
LEAST_CPUS = 0.001
LEAST_MEMORY = 4 * 1024 * 1024

Rule = Callable[[dict[str, Any]], Iterable[Problem]]


_ADDRESSES = re.compile(r"\s*node\.ip\s*(?:[!=]=|in\s*\(|notin\s*\()([^()]*)\)?\s*\Z")


def service(obj: dict[str, Any]) -> Iterator[Problem]:
    placement = _block(_block(obj, "spec"), "placement")
    yield from _constraints(placement, ("spec", "placement", "constraints"))
    yield from _template(_block(_block(obj, "spec"), "template"), ("spec", "template"))
    yield from _job(_block(obj, "spec"))


def revision(obj: dict[str, Any]) -> Iterator[Problem]:
    yield from _template(_block(_block(obj, "spec"), "template"), ("spec", "template"))


def secret(obj: dict[str, Any]) -> Iterator[Problem]:
    """A secret's payload: there, decodable, of legal size; or made or fetched by the system.

    An object that the server gave out has no payload, and its status says that one is stored:
    that is complete, and means that the payload stays.
    """
    yield from system_values(obj)
    if _misshapen(obj, "data", "stringData", "sealed"):
        return
    yield from _sealed_twice(obj)
    if obj.get("sealed"):
        sealed = sum(_sealed_size(text) for _, text in _texts(obj["sealed"]))
        yield from _payload(obj, "data", "stringData", SECRET_MAX_BYTES, least=0, sealed=sealed)
        return
    if not (obj.get("data") or obj.get("stringData")):
        if has_system_values(obj):
            return
        given = "data" in obj or "stringData" in obj
        if given or not _positive(_block(obj, "status").get("version")):
            yield Problem(
                ("data" if "data" in obj else "stringData",),
                "a secret needs at least one byte",
                "give text in stringData or base64 in data",
                Code.REQUIRED,
            )
        return
    yield from _payload(obj, "data", "stringData", SECRET_MAX_BYTES, least=1)


def _sealed_size(text: str) -> int:
    """The bytes that are in a sealed value: its body has 60 more, as docs/sealing.md has it."""
    body = text.rpartition(":")[2]
    return max(0, len(body) * 3 // 4 - body[-2:].count("=") - 60)


def _sealed_twice(obj: dict[str, Any]) -> Iterator[Problem]:
    for key in _block(obj, "sealed"):
        other = next((f for f in ("data", "stringData") if key in _block(obj, f)), None)
        if other is not None:
            message = f"the key {quoted(key)} is in {other} too"
            yield Problem(("sealed", key), message, "remove one of the two", Code.DUPLICATE)


def config(obj: dict[str, Any]) -> Iterator[Problem]:
    if _misshapen(obj, "data", "binaryData"):
        return
    if not (obj.get("data") or obj.get("binaryData")):
        yield Problem(
            ("binaryData" if "binaryData" in obj else "data",),
            "a config needs at least one file",
            "give text in data or base64 in binaryData",
            Code.REQUIRED,
        )
        return
    yield from _payload(obj, "binaryData", "data", CONFIG_MAX_BYTES, least=0)


RULES: dict[str, Rule] = {
    "Service": service,
    "Revision": revision,
    "Secret": secret,
    "Config": config,
}


def decode_base64(text: str) -> bytes:
    """Bytes from base64 as tools write it: line breaks are allowed. Raises ValueError."""
    joined = "".join(text.split())
    try:
        return base64.b64decode(joined, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None


def _payload(
    obj: dict[str, Any], encoded: str, plain: str, most: int, *, least: int, sealed: int = 0
) -> Iterator[Problem]:
    total, whole = sealed, True
    for key, text in _texts(_block(obj, encoded)):
        try:
            total += len(decode_base64(text))
        except ValueError:
            whole = False
            hint = f"write base64 (base64 -w0 <file>), or plain text under {plain}"
            yield Problem((encoded, key), "is not base64", hint)
    for key, text in _texts(_block(obj, plain)):
        total += len(text.encode("utf-8", "surrogatepass"))
        if key in _block(obj, encoded):
            message = f"the key {quoted(key)} is in {encoded} too"
            yield Problem((plain, key), message, "remove one of the two", Code.DUPLICATE)
    place = (next((field for field in (encoded, plain) if field in obj), "sealed"),)
    if total > most:
        message = f"holds {total} bytes, and at most {most} are allowed"
        yield Problem(place, message, "split it, or put it on a volume", Code.TOO_LONG)
    if total < least and whole:
        yield Problem(place, "is empty: a secret needs at least one byte", code=Code.REQUIRED)


def _template(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from deliveries.problems(template, path)
    for index, mount in _items(template, "mounts"):
        yield from _mount(mount, (*path, "mounts", index))
    yield from _ports(template, (*path, "ports"))
    yield from _resources(_block(template, "resources"), (*path, "resources"))
    yield from _devices(template, path)
    yield from _security(_block(template, "security"), (*path, "security"))
    yield from _healthcheck(_block(template, "healthcheck"), (*path, "healthcheck"))
    if "readiness" in template:
        yield from _readiness(template["readiness"], (*path, "readiness"))
    yield from _names(template, path)
    yield from _ulimits(template, (*path, "ulimits"))


def _names(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Extra hosts and name servers are IP addresses."""
    for name, address in _texts(_block(template, "extraHosts")):
        if address != "host-gateway" and not _is_address(address):
            message = f"{quoted(address)} is no IP address"
            hint = "for example 192.0.2.7, or host-gateway for the node itself"
            yield Problem((*path, "extraHosts", name), message, hint)
    servers = _block(template, "dns").get("servers")
    for index, server in enumerate(servers if isinstance(servers, list) else ()):
        if isinstance(server, str) and not _is_address(server):
            message = f"{quoted(server)} is no IP address"
            yield Problem((*path, "dns", "servers", index), message, "for example 192.0.2.53")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _ulimits(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    taken: set[str] = set()
    for index, ulimit in _items(template, "ulimits"):
        name, soft, hard = ulimit.get("name"), ulimit.get("soft"), ulimit.get("hard")
        if isinstance(name, str):
            if name in taken:
                message = f"{name} is limited twice"
                yield Problem((*path, index, "name"), message, "name it once", Code.DUPLICATE)
            taken.add(name)
        if isinstance(soft, int) and isinstance(hard, int) and hard != -1 and not 0 <= soft <= hard:
            message = f"the soft limit {soft} is above the hard limit {hard}"
            yield Problem((*path, index, "soft"), message, "raise hard, or leave it out")


def _constraints(placement: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Constraints on node.ip name addresses or networks."""
    given = placement.get("constraints")
    for index, text in enumerate(given if isinstance(given, list) else ()):
        match = _ADDRESSES.match(text) if isinstance(text, str) else None
        for value in match[1].split(",") if match else ():
            try:
                ipaddress.ip_network(value.strip(), strict=False)
            except ValueError:
                message = f"{quoted(value.strip())} is no IP address and no network"
                yield Problem((*path, index), message, "for example: node.ip == 10.0.0.0/8")


def _job(spec: dict[str, Any]) -> Iterator[Problem]:
    completions = _block(spec, "job").get("completions", 1)
    if spec.get("mode") == "global-job" and _positive(completions) and completions > 1:
        message = "a global-job runs once on each node, and has no number of completions"
        hint = "remove it, or use mode replicated-job"
        yield Problem(("spec", "job", "completions"), message, hint, Code.FORBIDDEN)
    schedule = _block(spec, "schedule")
    yield from cron_problems(schedule, ("spec", "schedule"))


def _mount(mount: dict[str, Any], path: Path) -> Iterator[Problem]:
    source, target = mount.get("source", ""), mount.get("target")
    if not isinstance(source, str):
        return
    if isinstance(target, str) and posixpath.normpath(target) == "/":
        yield Problem((*path, "target"), "the container's root can't be mounted over")
    match mount.get("type", "volume"):
        case "bind" if not source:
            hint = "name the file or directory of the node"
            yield Problem((*path, "source"), "a bind mount needs a source", hint, Code.REQUIRED)
        case "bind" if not source.startswith("/") or ".." in source.split("/"):
            message = f"expected an absolute path on the node without '..', got {quoted(source)}"
            yield Problem((*path, "source"), message)
        case "tmpfs" if source:
            hint = "remove it, or use type bind or volume"
            message = "a tmpfs mount has no source"
            yield Problem((*path, "source"), message, hint, Code.FORBIDDEN)
        case "volume" if source.startswith((".", "/", "~")):
            message = f"expected a volume's name, got the path {quoted(source)}"
            yield Problem((*path, "source"), message, "for a path of the node use type: bind")
        case "volume" if source and not _is_volume_name(source):
            message = f"expected a volume's name, got {quoted(source)}"
            yield Problem((*path, "source"), message, "use letters, digits, '-', '_' and '.'")


def _is_volume_name(name: str) -> bool:
    """The Docker Engine's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+."""
    plain = name.replace("_", "").replace(".", "").replace("-", "")
    return len(name) > 1 and plain.isascii() and plain.isalnum() and name[0].isalnum()


def _ports(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    taken: dict[tuple[int, str], int] = {}
    for index, port in _items(template, "ports"):
        published, protocol = port.get("published", 0), port.get("protocol", "tcp")
        if not _positive(published) or not isinstance(protocol, str):
            continue
        first = taken.setdefault((published, protocol), index)
        if first != index:
            message = f"port {published}/{protocol} is published by ports[{first}] too"
            hint = "publish each port once"
            yield Problem((*path, index, "published"), message, hint, Code.DUPLICATE)


def _resources(resources: dict[str, Any], path: Path) -> Iterator[Problem]:
    reserved, limits = _block(resources, "reservations"), _block(resources, "limits")
    for name, parse, least, words in (
        ("cpus", parse_cpus, LEAST_CPUS, "0.001"),
        ("memory", parse_bytes, LEAST_MEMORY, "4Mi"),
    ):
        amounts: dict[str, float] = {}
        for block, values in (("reservations", reserved), ("limits", limits)):
            amount = _amount(parse, values.get(name, 0))
            amounts[block] = amount
            if 0 < amount < least:
                message = f"expected 0 or at least {words}, got {values[name]}"
                yield Problem((*path, block, name), message)
        if 0 < amounts["limits"] < amounts["reservations"]:
            message = f"reserves {reserved[name]}, which is more than the limit of {limits[name]}"
            hint = "raise resources.limits or reserve less"
            yield Problem((*path, "reservations", name), message, hint)


def _generic(template: dict[str, Any]) -> dict[str, Any]:
    return _block(_block(_block(template, "resources"), "reservations"), "generic")


def _devices(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Each a path of the node, or a generic resource that is reserved."""
    reserved = _generic(template)
    yield from _alike(reserved, (*path, "resources", "reservations", "generic"))
    handed: set[str] = set()
    for index, device in _items(template, "devices"):
        place = (*path, "devices", index)
        kind = device.get("resource")
        if not kind:
            yield from _device_path(device, place)
            continue
        if device.get("source"):
            message = "a device is at a path, or of a resource"
            hint = "keep one of source and resource"
            yield Problem((*place, "source"), message, hint, Code.FORBIDDEN)
        if not isinstance(kind, str):
            continue
        if kind not in reserved:
            message = f"{quoted(kind)} is not reserved"
            hint = f"add resources.reservations.generic: {{{kind}: 1}}"
            yield Problem((*place, "resource"), message, hint)
        elif device.get("target") and _positive(reserved[kind]) and reserved[kind] > 1:
            message = f"{reserved[kind]} of {quoted(kind)} can't all be at one place"
            yield Problem((*place, "target"), message, "leave it out: each stays where it is")
        if kind in handed:
            message = f"{quoted(kind)} is there already"
            yield Problem((*place, "resource"), message, "name it once", Code.DUPLICATE)
        handed.add(kind)


def _security(security: dict[str, Any], path: Path) -> Iterator[Problem]:
    profile = security.get("seccompProfile")
    if isinstance(profile, str) and profile:
        place = (*path, "seccompProfile")
        if security.get("seccomp", "default") != "default":
            message = "there is seccomp: unconfined already, which allows all"
            yield Problem(place, message, "keep one of the two", Code.FORBIDDEN)
        try:
            read = json.loads(profile)
        except (ValueError, RecursionError) as error:
            yield Problem(place, f"is not JSON: {error}", "give the text of a profile's file")
        else:
            action = read.get("defaultAction") if isinstance(read, dict) else None
            if not isinstance(action, str) or not action.startswith("SCMP_ACT_"):
                message = "is no seccomp profile: it has no defaultAction"
                yield Problem(place, message, 'for example {"defaultAction": "SCMP_ACT_ERRNO", …}')
    label = _block(security, "seLinux")
    if label.get("disable") is True and any(label.get(part) for part in _LABEL):
        message = "without SELinux there is no label"
        yield Problem((*path, "seLinux", "disable"), message, "remove it, or the rest of seLinux")


_LABEL = ("user", "role", "type", "level")


def _alike(reserved: dict[str, Any], path: Path) -> Iterator[Problem]:
    kinds: dict[str, str] = {}
    for kind in filter(lambda kind: isinstance(kind, str), reserved):
        other = kinds.setdefault(kind.upper(), kind)
        if other != kind:
            message = f"{quoted(kind)} and {quoted(other)} would be one environment variable"
            yield Problem((*path, kind), message, "write both alike", Code.DUPLICATE)


def _device_path(device: dict[str, Any], place: Path) -> Iterator[Problem]:
    if not device.get("source"):
        hint = "give source, a path on the node, or resource, what resources.reservations names"
        yield Problem((*place, "source"), "a device is needed", hint, Code.REQUIRED)
    for field in ("driver", "capabilities"):
        if device.get(field):
            message = "goes only with a resource"
            yield Problem((*place, field), message, "remove it, or use resource", Code.FORBIDDEN)


def _readiness(check: object, path: Path) -> Iterator[Problem]:
    if not isinstance(check, dict):
        return
    if not any(check.get(way) for way in _WAYS):
        message = "says nothing to check"
        yield Problem(path, message, "give one of command, http and tcp", Code.REQUIRED)
    yield from _healthcheck(check, path)


_WAYS = ("command", "http", "tcp")


def _healthcheck(check: dict[str, Any], path: Path) -> Iterator[Problem]:
    ways = [way for way in _WAYS if check.get(way)]
    for way in ways if check.get("disable") is True else ():
        message = f"the check is disabled, so it has no {way}"
        yield Problem((*path, way), message, f"remove disable, or the {way}", Code.FORBIDDEN)
    for way in ways[1:]:
        message = f"there is {ways[0]} already, and a check is one thing"
        yield Problem((*path, way), message, f"keep one of {' and '.join(ways)}", Code.FORBIDDEN)
    command = check.get("command")
    if not isinstance(command, list) or not command:
        return
    if command[0] in ("CMD", "CMD-SHELL", "NONE"):
        hint = {
            "CMD": "leave it out: the program comes first",
            "CMD-SHELL": 'write [sh, -c, "…"]',
            "NONE": "write disable: true",
        }[command[0]]
        yield Problem((*path, "command", 0), f"{command[0]} is Docker's word, not a program", hint)


def _amount(parse: Callable[[Any], float], value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return 0
    try:
        return parse(value)
    except (ValueError, OverflowError):
        return 0


def _misshapen(obj: dict[str, Any], *keys: str) -> bool:
    return any(not isinstance(obj.get(key, {}), dict) for key in keys)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
