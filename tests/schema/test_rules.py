"""Rules between fields, and the sizes of payloads."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from api.schema import payload, validate
from api.types.secret import CONFIG_MAX_BYTES, SECRET_MAX_BYTES
from tests.schema.objects import minimal, service, templated

PROFILE = '{"defaultAction": "SCMP_ACT_ERRNO"}'


def secret(**rest: Any) -> dict[str, Any]:
    obj = minimal("Secret") | rest
    if "stringData" not in rest:
        del obj["stringData"]
    return obj


def config(**rest: Any) -> dict[str, Any]:
    obj = minimal("Config") | rest
    if "data" not in rest:
        del obj["data"]
    return obj


def reserving(generic: dict[str, Any], **template: Any) -> dict[str, Any]:
    return templated(resources={"reservations": {"generic": generic}}, **template)


def job(**spec: Any) -> dict[str, Any]:
    return service(mode="replicated-job", **spec)


@pytest.mark.parametrize(
    ("obj", "field", "words"),
    [
        (service(mode="global", replicas=2), "spec.replicas", "goes only with mode replicated"),
        (job(replicas=2), "spec.replicas", "goes only with mode replicated"),
        (job(update={}), "spec.update", "goes only with mode replicated or global"),
        (service(job={}), "spec.job", "goes only with mode replicated-job or global-job"),
        (service(schedule={"cron": "@daily"}), "spec.schedule", "goes only with mode"),
        (
            service(mode="global-job", job={"completions": 2}),
            "spec.job.completions",
            "runs once on each node",
        ),
        (job(schedule={"cron": "* * * *"}), "spec.schedule.cron", "5 fields (minute, hour"),
        (job(schedule={"cron": "61 * * * *"}), "spec.schedule.cron", "the field for minute"),
        (job(schedule={"cron": "0 0 30 2 *"}), "spec.schedule.cron", "the field for day of month"),
        (job(schedule={"cron": "@reboot"}), "spec.schedule.cron", "one of @hourly, @daily"),
        (job(schedule={"cron": "TZ=UTC 0 0 * * *"}), "spec.schedule.cron", "zone in timeZone"),
        (
            job(schedule={"cron": "@daily", "timeZone": "Europe/Berln"}),
            "spec.schedule.timeZone",
            "no time zone 'Europe/Berln'; a name such as Europe/Berlin or UTC",
        ),
        (
            templated(mounts=[{"target": "/a"}, {"target": "/a/"}]),
            "spec.template.mounts[1].target",
            "/a is taken by spec.template.mounts[0]",
        ),
        (
            templated(secrets=[{"name": "a"}, {"name": "a"}]),
            "spec.template.secrets[1].name",
            "/run/secrets/a is taken",
        ),
        (
            templated(secrets=[{"name": "a"}], configs=[{"name": "b", "target": "/run/secrets/a"}]),
            "spec.template.configs[0].target",
            "is taken by spec.template.secrets[0]",
        ),
        (
            templated(mounts=[{"type": "bind", "target": "/a"}]),
            "spec.template.mounts[0].source",
            "a bind mount needs a source",
        ),
        (
            templated(mounts=[{"type": "bind", "source": "a", "target": "/a"}]),
            "spec.template.mounts[0].source",
            "an absolute path on the node",
        ),
        (
            templated(mounts=[{"source": "./a", "target": "/a"}]),
            "spec.template.mounts[0].source",
            "for a path of the node use type: bind",
        ),
        (
            templated(mounts=[{"source": "a b", "target": "/a"}]),
            "spec.template.mounts[0].source",
            "expected a volume's name",
        ),
        (
            templated(mounts=[{"type": "tmpfs", "source": "a", "target": "/a"}]),
            "spec.template.mounts[0].source",
            "a tmpfs mount has no source",
        ),
        (
            templated(mounts=[{"target": "/a", "size": "1Mi"}]),
            "spec.template.mounts[0].size",
            "goes only with type tmpfs, and type is volume",
        ),
        (
            templated(mounts=[{"type": "tmpfs", "target": "/"}]),
            "spec.template.mounts[0].target",
            "root can't be mounted over",
        ),
        (
            templated(ports=[{"target": 1, "published": 80}, {"target": 2, "published": 80}]),
            "spec.template.ports[1].published",
            "port 80/tcp is published by ports[0] too",
        ),
        (
            templated(resources={"reservations": {"cpus": 2}, "limits": {"cpus": "500m"}}),
            "spec.template.resources.reservations.cpus",
            "reserves 2, which is more than the limit of 500m",
        ),
        (
            templated(resources={"reservations": {"memory": "1Gi"}, "limits": {"memory": "1G"}}),
            "spec.template.resources.reservations.memory",
            "reserves 1Gi, which is more than the limit of 1G",
        ),
        (
            templated(resources={"limits": {"memory": "1Mi"}}),
            "spec.template.resources.limits.memory",
            "expected 0 or at least 4Mi, got 1Mi",
        ),
        (
            templated(resources={"reservations": {"cpus": 0.0001}}),
            "spec.template.resources.reservations.cpus",
            "at least 0.001",
        ),
        (
            templated(healthcheck={"command": ["CMD-SHELL", "true"]}),
            "spec.template.healthcheck.command[0]",
            'write [sh, -c, "…"]',
        ),
        (
            templated(healthcheck={"command": ["true"], "disable": True}),
            "spec.template.healthcheck.command",
            "the check is disabled",
        ),
        (
            templated(healthcheck={"tcp": {"port": 1}, "disable": True}),
            "spec.template.healthcheck.tcp",
            "the check is disabled, so it has no tcp",
        ),
        (
            templated(healthcheck={"command": ["true"], "http": {"port": 80}}),
            "spec.template.healthcheck.http",
            "there is command already, and a check is one thing",
        ),
        (
            templated(readiness={"interval": "1s"}),
            "spec.template.readiness",
            "give one of command, http and tcp",
        ),
        (
            service(placement={"constraints": ["node.ip in (10.0.0.0/8, 10.0.0.300)"]}),
            "spec.placement.constraints[0]",
            '"10.0.0.300" is no IP address and no network',
        ),
        (
            templated(extraHosts={"db": "db.example.com"}),
            "spec.template.extraHosts.db",
            '"db.example.com" is no IP address; for example 192.0.2.7, or host-gateway',
        ),
        (
            templated(dns={"servers": ["10.0.0.2", "fe80::1%eth0"]}),
            "spec.template.dns.servers[1]",
            "is no IP address",
        ),
        (
            templated(ulimits=[{"name": "nofile", "soft": 9, "hard": 8}]),
            "spec.template.ulimits[0].soft",
            "the soft limit 9 is above the hard limit 8",
        ),
        (
            templated(ulimits=[{"name": "core", "soft": 0}, {"name": "core", "soft": 1}]),
            "spec.template.ulimits[1].name",
            "core is limited twice",
        ),
        (
            templated(sysctls={"vm.swappiness": 1}),
            'spec.template.sysctls["vm.swappiness"]',
            "a setting that a container has of its own",
        ),
        (
            templated(devices=[{"source": "/dev/fuse", "permissions": "rr"}]),
            "spec.template.devices[0].permissions",
            "r (read), w (write) and m (make device files), each once",
        ),
        (
            templated(devices=[{"source": "dev/fuse"}]),
            "spec.template.devices[0].source",
            "an absolute path",
        ),
        (
            templated(devices=[{"permissions": "r"}]),
            "spec.template.devices[0].source",
            "a device is needed",
        ),
        (
            templated(devices=[{"source": "/dev/fuse", "driver": "nvidia"}]),
            "spec.template.devices[0].driver",
            "goes only with a resource",
        ),
        (
            templated(devices=[{"resource": "gpu"}]),
            "spec.template.devices[0].resource",
            '"gpu" is not reserved; add resources.reservations.generic: {gpu: 1}',
        ),
        (
            reserving({"gpu": 1}, devices=[{"resource": "gpu", "source": "/dev/fuse"}]),
            "spec.template.devices[0].source",
            "keep one of source and resource",
        ),
        (
            reserving({"gpu": 2}, devices=[{"resource": "gpu", "target": "/dev/x"}]),
            "spec.template.devices[0].target",
            '2 of "gpu" can\'t all be at one place',
        ),
        (
            reserving({"gpu": 1}, devices=[{"resource": "gpu"}, {"resource": "gpu"}]),
            "spec.template.devices[1].resource",
            '"gpu" is there already',
        ),
        (
            reserving({"gpu": 1, "GPU": 1}),
            "spec.template.resources.reservations.generic.GPU",
            "would be one environment variable",
        ),
        (
            reserving({"gpu": 0}),
            "spec.template.resources.reservations.generic.gpu",
            "1",
        ),
        (
            reserving({"a gpu": 1}),
            'spec.template.resources.reservations.generic["a gpu"]',
            "a kind of resource such as gpu",
        ),
        (
            templated(security={"seccompProfile": "{"}),
            "spec.template.security.seccompProfile",
            "is not JSON: Expecting property name",
        ),
        (
            templated(security={"seccompProfile": "[]"}),
            "spec.template.security.seccompProfile",
            "it has no defaultAction",
        ),
        (
            templated(security={"seccompProfile": PROFILE, "seccomp": "unconfined"}),
            "spec.template.security.seccompProfile",
            "keep one of the two",
        ),
        (
            templated(security={"seLinux": {"disable": True, "type": "container_t"}}),
            "spec.template.security.seLinux.disable",
            "without SELinux there is no label",
        ),
        (
            templated(security={"seLinux": {"level": "s0 c1"}}),
            "spec.template.security.seLinux.level",
            "a level such as s0:c100,c200",
        ),
        (
            templated(security={"seccomp": "off"}),
            "spec.template.security.seccomp",
            "one of default, unconfined",
        ),
        (
            templated(logging={"driver": "my log"}),
            "spec.template.logging.driver",
            "a log driver's name",
        ),
        (secret(), "stringData", "a secret needs at least one byte"),
        (secret(data={}), "data", "a secret needs at least one byte"),
        (secret(stringData={"a": ""}), "stringData", "a secret needs at least one byte"),
        (secret(stringData={"a": "x" * (SECRET_MAX_BYTES + 1)}), "stringData", "holds 512001 by"),
        (secret(data={"a": "%%%"}), "data.a", "is not base64"),
        (secret(data={"a": "YQ"}), "data.a", "is not base64"),
        (secret(data={"a": "YQ=="}, stringData={"a": "b"}), "stringData.a", "is in data too"),
        (config(), "data", "a config needs at least one file"),
        (config(data={"a": "x" * (CONFIG_MAX_BYTES + 1)}), "data", "at most 1024000 are allowed"),
        (config(binaryData={"a": "!"}), "binaryData.a", "is not base64"),
    ],
)
def test_refused(obj: dict[str, Any], field: str, words: str) -> None:
    (problem,) = validate(obj)
    assert problem.field == field
    assert words in problem.text


@pytest.mark.parametrize(
    "obj",
    [
        templated(ports=[{"target": 53, "published": 53}, {"target": 53, "published": 53,
                         "protocol": "udp"}, {"target": 1}, {"target": 2}]),
        templated(resources={"reservations": {"cpus": "1", "memory": "1Gi"}, "limits": {}}),
        templated(secrets=[{"name": "a", "key": "x", "target": "x"}, {"name": "a"}]),
        templated(mounts=[{"type": "bind", "source": "/", "target": "/host", "readOnly": True}]),
        templated(mounts=[{"type": "tmpfs", "target": "/tmp", "size": "64Mi", "mode": "0700"}]),
        reserving({"gpu": 2, "modem": 1}, devices=[{"source": "/dev/fuse"},
                  {"resource": "gpu", "driver": "nvidia", "capabilities": ["gpu", "utility"]},
                  {"resource": "modem", "target": "/dev/modem", "permissions": "rw"}]),
        templated(security={"seccompProfile": PROFILE, "seLinux": {"type": "container_t",
                  "level": "s0-s0:c0.c1023", "user": "system_u", "role": "system_r"}}),
        templated(healthcheck={"disable": True}),
        templated(readiness={"http": {"port": 80, "path": "/a?b=$1", "expectedStatus": 204}}),
        templated(extraHosts={"a": "::1", "b.c": "host-gateway"}, dns={"servers": ["::1"]}),
        templated(ulimits=[{"name": "core", "soft": -1}, {"name": "cpu", "soft": 1, "hard": -1}]),
        job(job={"completions": 5, "deadline": "1h"}, restart={"condition": "on-failure"}),
        service(mode="global-job", job={"completions": 1}, schedule={"cron": "@hourly"}),
        job(schedule={"cron": "*/5 8-18 * JAN-MAR,DEC MON-FRI", "timeZone": "Asia/Kolkata"}),
        secret(stringData={"a": "x" * SECRET_MAX_BYTES}),
        secret(data={"a": "YQ==\n"}),
        secret(status={"version": 3, "sizes": {"a": 1}}),
        config(data={"a": ""}),
    ],
    ids=lambda obj: str(obj)[60:160],
)  # fmt: skip
def test_accepted(obj: dict[str, Any]) -> None:
    assert validate(obj) == []


def test_payload_is_the_bytes_of_both_maps() -> None:
    wrapped = base64.encodebytes(bytes(range(200))).decode()
    obj = secret(data={"a": wrapped}, stringData={"b": "ü"})
    assert validate(obj) == []
    assert payload(obj) == {"a": bytes(range(200)), "b": "ü".encode()}
    assert payload(config(data={"a": "b"}, binaryData={"c": "YQ=="})) == {"a": b"b", "c": b"a"}
