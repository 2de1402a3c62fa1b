"""A task's container as the Engine's `POST /containers/create` wants it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from api.types.quantity import parse_bytes, parse_cpus, parse_duration
from api.types.template import Healthcheck, Mount, Port, Resources
from controllers.agent.drivers.contract import ContainerSpec, Refused
from controllers.agent.drivers.engine.box import box

LABEL = "dev.skep."
CLUSTER = LABEL + "cluster"
NODE = LABEL + "node"
TASK = LABEL + "task"
TASK_NAME = LABEL + "task-name"
NAMESPACE = LABEL + "namespace"
SERVICE = LABEL + "service"
SLOT = LABEL + "slot"
VOLUME = LABEL + "volume"
CLAIMS = LABEL + "resources"  # a JSON map from kind to names
WIRED = LABEL + "wired"  # whether its network is made by the agent: true | false

RESOLVERS = "/etc/resolv.conf"
RUNTIME = "skep"  # the engine's name for what puts a container into such a network

_START_INTERVAL_SINCE = (1, 44)  # of the Engine's API


def container_name(spec: ContainerSpec) -> str:
    return _name(spec.namespace, spec.task_name, spec.task_uid)


def owned(labels: Mapping[str, str], name: str) -> str:
    """The task whose container this is; "" where we did not make it.

    Labels alone don't say: what is run from an image that was committed from one of our
    containers has them too. A name is an engine's only once.
    """
    uid = labels.get(TASK, "")
    return uid if name == _name(labels.get(NAMESPACE, ""), labels.get(TASK_NAME, ""), uid) else ""


def _name(namespace: str, task_name: str, task_uid: str) -> str:
    return f"{namespace}.{task_name}.{task_uid[:8]}"


def volume_name(namespace: str, name: str) -> str:
    """A namespace's volumes are its own, as a stack's are in Swarm."""
    return f"{namespace}_{name}"


def create_body(
    spec: ContainerSpec,
    *,
    cluster: str,
    node: str,
    hosts: str,
    resolvers: str,
    api: tuple[int, int],
) -> dict[str, Any]:
    """The request. `hosts` is the file seen as /etc/hosts; `resolvers` the one that is seen as
    /etc/resolv.conf where the agent makes the container's network, else "". Raises Refused for a
    bad quantity."""
    template = spec.template
    body: dict[str, Any] = {
        "Image": template.image,
        "Hostname": spec.hostname,
        "User": template.user,
        "WorkingDir": template.workdir,
        "Env": [f"{name}={value}" for name, value in template.env.items()],
        "Labels": {
            **template.labels,
            **_labels(spec, cluster, node),
            WIRED: "true" if resolvers else "false",  # said: an image's label would else count
        },
        "ExposedPorts": {_port(port): {} for port in template.ports},
    }
    if template.command:
        body["Entrypoint"] = template.command
    if template.args:
        body["Cmd"] = template.args
    if template.stop_signal:
        body["StopSignal"] = template.stop_signal
    try:
        body["StopTimeout"] = math.ceil(parse_duration(template.stop_grace_period))
        if template.healthcheck is not None:
            body["Healthcheck"] = _healthcheck(template.healthcheck, api)
        body["HostConfig"] = _host_config(spec, cluster, hosts)
    except ValueError as error:
        raise Refused(str(error)) from error
    if resolvers:
        body["NetworkDisabled"] = True
        body["HostConfig"]["Runtime"] = RUNTIME
        mounts = body["HostConfig"]["Mounts"]
        if all(mount["Target"] != RESOLVERS for mount in mounts):  # the user's own comes first
            mounts.append(_bind(resolvers, RESOLVERS, read_only=True))
    return body


def _labels(spec: ContainerSpec, cluster: str, node: str) -> dict[str, str]:
    named = {kind: names for kind, names in spec.generic.items() if not isinstance(names, int)}
    return {
        **({CLAIMS: json.dumps(named)} if named else {}),
        CLUSTER: cluster,
        NODE: node,
        TASK: spec.task_uid,
        TASK_NAME: spec.task_name,
        NAMESPACE: spec.namespace,
        SERVICE: spec.service,
        SLOT: str(spec.slot),
    }


def _port(port: Port) -> str:
    return f"{port.target}/{port.protocol}"


def _healthcheck(check: Healthcheck, api: tuple[int, int]) -> dict[str, Any]:
    if check.disable or check.http or check.tcp:  # those are the agent's to make
        return {"Test": ["NONE"]}
    body: dict[str, Any] = {
        "Interval": _nanoseconds(check.interval),
        "Timeout": _nanoseconds(check.timeout),
        "Retries": check.retries,
        "StartPeriod": _nanoseconds(check.start_period),
    }
    if check.command:
        body["Test"] = ["CMD", *check.command]
    if api >= _START_INTERVAL_SINCE and body["StartPeriod"]:
        body["StartInterval"] = _nanoseconds(check.start_interval)
    return body


def _host_config(spec: ContainerSpec, cluster: str, hosts: str) -> dict[str, Any]:
    template = spec.template
    config: dict[str, Any] = {
        "NetworkMode": "bridge",
        "Init": template.init,
        "ReadonlyRootfs": template.read_only,
        "CapAdd": template.capabilities.add,
        "CapDrop": template.capabilities.drop,
        "Mounts": [
            _bind(hosts, "/etc/hosts", read_only=True),
            *(_bind(file.source, file.target, read_only=True) for file in spec.files),
            *(_mount(mount, spec.namespace, cluster) for mount in template.mounts),
        ],
        **box(template, spec.generic),
        **_resources(template.resources),
    }
    bindings: dict[str, list[Mapping[str, str]]] = {}
    for port in template.ports:
        published = str(port.published) if port.published else ""
        bindings.setdefault(_port(port), []).append({"HostPort": published})
    if bindings:
        config["PortBindings"] = bindings
    return config


def _resources(resources: Resources) -> dict[str, int]:
    config: dict[str, int] = {}
    if cpus := parse_cpus(resources.limits.cpus):
        config["NanoCpus"] = round(cpus * 1e9)
    if memory := parse_bytes(resources.limits.memory):
        # The limit is of memory and swap together: else the Engine allows as much swap again.
        config["Memory"] = config["MemorySwap"] = memory
    if reserved := parse_bytes(resources.reservations.memory):
        config["MemoryReservation"] = reserved
    if resources.limits.pids:
        config["PidsLimit"] = resources.limits.pids
    return config


def _mount(mount: Mount, namespace: str, cluster: str) -> dict[str, Any]:
    if mount.type == "bind":
        return _bind(mount.source, mount.target, read_only=mount.read_only)
    body: dict[str, Any] = {
        "Type": mount.type,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.type == "volume" and mount.source:
        labels = {CLUSTER: cluster, NAMESPACE: namespace, VOLUME: mount.source}
        body["Source"] = volume_name(namespace, mount.source)
        body["VolumeOptions"] = {"Labels": labels}
    if mount.type == "tmpfs":
        options: dict[str, int] = {}
        if size := parse_bytes(mount.size):
            options["SizeBytes"] = size
        if mount.mode:
            options["Mode"] = int(mount.mode, 8)
        body["TmpfsOptions"] = options
    return body


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _nanoseconds(duration: str) -> int:
    return round(parse_duration(duration) * 1e9)
