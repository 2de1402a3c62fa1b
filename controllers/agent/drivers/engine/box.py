"""The box a container runs in: what of its node it may touch, as the Engine's HostConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.types.generic import Amount
from api.types.quantity import parse_bytes
from api.types.template import Device, Dns, Logging, Security, TaskTemplate

HOST_GATEWAY = "host-gateway"  # the Engine's word for the node's address on the bridge

# A container that prints without end must not fill the node's disk.
_ROTATION = {"max-size": "10m", "max-file": "2"}


def box(template: TaskTemplate, generic: Mapping[str, Amount]) -> dict[str, Any]:
    """What is not given is not in it, so that it stays the Engine's. `generic` are the resources
    that the task was given. Raises ValueError."""
    config: dict[str, Any] = {
        "LogConfig": _logging(template.logging),
        "SecurityOpt": _security(template.security),
    }
    wanted: dict[str, Any] = {
        "Privileged": template.privileged,
        "Devices": [each for device in template.devices for each in _paths(device, generic)],
        "DeviceRequests": [
            _request(device, ids) for device in template.devices if (ids := _ids(device, generic))
        ],
        "Sysctls": {name: str(value) for name, value in template.sysctls.items()},
        "Ulimits": [
            {"Name": it.name, "Soft": it.soft, "Hard": it.soft if it.hard is None else it.hard}
            for it in template.ulimits
        ],
        "ShmSize": parse_bytes(template.shm_size),
        # The Engine's own /etc/hosts is not seen: this is how an agent that comes back knows.
        "ExtraHosts": [f"{name}:{address}" for name, address in template.extra_hosts.items()],
        "Dns": template.dns.servers,
        "DnsSearch": template.dns.search,
        "DnsOptions": template.dns.options,
    }
    return config | {name: value for name, value in wanted.items() if value}


def extra_hosts(inspected: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and addresses that a container was made with."""
    given = inspected["HostConfig"].get("ExtraHosts") or ()
    pairs = (each.partition(":") for each in given)
    return tuple((name, address) for name, _, address in pairs)


def dns(inspected: Mapping[str, Any]) -> Dns:
    """The name servers that a container was made with."""
    host = inspected["HostConfig"]
    return Dns(
        servers=host.get("Dns") or [],
        search=host.get("DnsSearch") or [],
        options=host.get("DnsOptions") or [],
    )


def _logging(logging: Logging) -> dict[str, Any]:
    rotation = _ROTATION if logging.driver == "json-file" else {}
    return {"Type": logging.driver, "Config": {**rotation, **logging.options}}


def _security(security: Security) -> list[str]:
    options = ["no-new-privileges"] if security.no_new_privileges else []
    if security.seccomp_profile or security.seccomp != "default":
        options.append(f"seccomp={security.seccomp_profile or security.seccomp}")
    if security.app_armor:
        options.append(f"apparmor={security.app_armor}")
    label = security.se_linux
    if label is None:
        return options
    if label.disable:
        options.append("label=disable")
    for part in ("user", "role", "type", "level"):
        if value := getattr(label, part):
            options.append(f"label={part}:{value}")
    return options


def _named(device: Device, generic: Mapping[str, Amount]) -> list[str]:
    amount = generic.get(device.resource, [])
    if isinstance(amount, int):
        raise ValueError(
            f"{device.resource} is a number on this node, which can't be handed over as devices;"
            f" start its agent with names: --resource {device.resource}=…"
        )
    return amount


def _paths(device: Device, generic: Mapping[str, Amount]) -> list[dict[str, str]]:
    names = _named(device, generic) if device.resource else [device.source]
    return [
        {
            "PathOnHost": path,
            "PathInContainer": device.target or path,
            "CgroupPermissions": device.permissions,
        }
        for path in names
        if path.startswith("/")
    ]


def _ids(device: Device, generic: Mapping[str, Amount]) -> list[str]:
    names = _named(device, generic) if device.resource else []
    return [name for name in names if not name.startswith("/")]


def _request(device: Device, ids: list[str]) -> dict[str, Any]:
    """As `docker run --gpus device=…` asks for it."""
    return {
        "Driver": device.driver,
        "DeviceIDs": ids,
        "Capabilities": [device.capabilities or ["gpu"]],
    }
