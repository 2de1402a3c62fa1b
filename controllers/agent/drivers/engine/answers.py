"""What the Engine's inspect and list answers say, as the contract's Container."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.types.generic import Amount, Claim, claims
from api.types.task import CheckFailure, PublishedPort
from controllers.agent.drivers.contract import Container, Phase
from controllers.agent.drivers.engine.body import CLAIMS, NAMESPACE, TASK, TASK_NAME

# What `docker inspect` calls Status. Paused processes are still there; dead ones are not.
_PHASES = {
    "created": Phase.CREATED,
    "running": Phase.RUNNING,
    "paused": Phase.RUNNING,
    "restarting": Phase.RUNNING,
    "removing": Phase.EXITED,
    "exited": Phase.EXITED,
    "dead": Phase.EXITED,
}
_CLAIMS = msgspec.json.Decoder(dict[str, Amount])
_HEALTH_OUTPUT_LIMIT = 1000  # characters; it becomes part of a task's status


def container(inspected: Mapping[str, Any]) -> Container:
    state = inspected["State"]
    labels = inspected["Config"]["Labels"]
    phase = _PHASES[state["Status"]]
    health = state.get("Health") or {}
    started = _time(state["StartedAt"])
    return Container(
        id=inspected["Id"],
        task_uid=labels[TASK],
        task_name=labels[TASK_NAME],
        namespace=labels[NAMESPACE],
        digest=inspected["Config"]["Image"].partition("@")[2],
        phase=phase,
        pid=state["Pid"],
        exit_code=state["ExitCode"] if phase is Phase.EXITED else None,
        oom_killed=state["OOMKilled"],
        health=_health(health),
        health_output=_health_output(health),
        check_failures=_failures(health),
        address=address(inspected),
        error=state["Error"],
        started_at=started,
        finished_at=_finished(state, started) if phase is Phase.EXITED else None,
        grace=inspected["Config"].get("StopTimeout"),
        ports=_ports(inspected["NetworkSettings"].get("Ports") or {}),
        claims=_claims(labels.get(CLAIMS, "")),
    )


def _claims(label: str) -> list[Claim]:
    try:
        return list(claims(_CLAIMS.decode(label))) if label else []
    except msgspec.MsgspecError:  # then it is not from us
        return []


def generic(said: Sequence[Mapping[str, Any]]) -> dict[str, Amount]:
    """The engine's `node-generic-resources`, each named one an entry of its own."""
    found: dict[str, Amount] = {}
    for entry in said:
        if named := entry.get("NamedResourceSpec"):
            had = found.get(named["Kind"], [])
            found[named["Kind"]] = [*(had if isinstance(had, list) else ()), str(named["Value"])]
        elif counted := entry.get("DiscreteResourceSpec"):
            found[counted["Kind"]] = int(counted["Value"])
    return found


def gateways(pools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The node's addresses on a network. Of the bridge that it has made since its start, an engine
    says only the subnet; the node then has the first address in it."""
    said = [str(ipaddress.ip_interface(p["Gateway"]).ip) for p in pools if p.get("Gateway")]
    subnets = [ipaddress.ip_network(pool["Subnet"]) for pool in pools if pool.get("Subnet")]
    return said or [str(subnet.network_address + 1) for subnet in subnets]


def address(inspected: Mapping[str, Any]) -> str:
    """The container's IP address; empty when it doesn't run."""
    networks = inspected["NetworkSettings"].get("Networks") or {}
    return next((str(n["IPAddress"]) for n in networks.values() if n.get("IPAddress")), "")


def _health(health: Mapping[str, Any]) -> str:
    status = str(health.get("Status", ""))
    return "" if status == "none" else status


def _health_output(health: Mapping[str, Any]) -> str:
    """What the last failed check printed, or how it failed where it printed nothing."""
    for check in reversed(health.get("Log") or []):
        if check["ExitCode"] != 0:
            output = str(check["Output"]).strip()
            return output[-_HEALTH_OUTPUT_LIMIT:] or f"exit code {check['ExitCode']}"
    return ""


def _failures(health: Mapping[str, Any]) -> list[CheckFailure]:
    return [
        CheckFailure(check="health", at=at, output=_health_output({"Log": [check]}))
        for check in health.get("Log") or []
        if check["ExitCode"] != 0 and (at := _time(check["Start"])) is not None
    ]


def _ports(ports: Mapping[str, Any]) -> list[PublishedPort]:
    """Published ports, once each, though the Engine lists IPv4 and IPv6 apart. Where it chose the
    ports it chose another one for each, and who is told both can't know which is which: IPv4's."""
    found = {
        (int(target.partition("/")[0]), target.partition("/")[2], int(binding["HostPort"]))
        for target, bindings in ports.items()
        for binding in _of_one_family(bindings or ())
    }
    return [
        PublishedPort(target=target, published=published, protocol=protocol)
        for target, protocol, published in sorted(found)
    ]


def _of_one_family(bindings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    open = [each for each in bindings if each.get("HostPort")]
    return [each for each in open if ":" not in str(each.get("HostIp", ""))] or open


def _finished(state: Mapping[str, Any], started: datetime | None) -> datetime | None:
    """Not before the start, though the Engine notes that a little late."""
    finished = _time(state["FinishedAt"])
    return max(started, finished) if started and finished else finished


def _time(text: str) -> datetime | None:
    """RFC 3339 with nanoseconds; the year 1 stands for never."""
    if text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text)
