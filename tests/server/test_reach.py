"""What reaches out of a container to its node takes a role for the whole cluster."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import ApiError, Client
from api.server.reach import reaching
from api.types.kinds import SERVICE
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.user import Grant
from tests.server.harness import Running, service
from tests.server.test_roles import refused, user

REACHING: dict[str, dict[str, Any]] = {
    "privileged": {"privileged": True},
    "device /dev/fuse": {"devices": [{"source": "/dev/fuse"}]},
    "security.seccomp unconfined": {"security": {"seccomp": "unconfined"}},
    "security.appArmor unconfined": {"security": {"appArmor": "unconfined"}},
    "security.seccompProfile": {
        "security": {"seccompProfile": '{"defaultAction": "SCMP_ACT_ALLOW"}'}
    },
    "security.seLinux.type": {"security": {"seLinux": {"type": "spc_t"}}},
    "security.seLinux.level": {"security": {"seLinux": {"level": "s0:c1,c2"}}},
    "security.seLinux.disable": {"security": {"seLinux": {"disable": True}}},
    "capability CAP_SYS_ADMIN": {"capabilities": {"add": ["NET_ADMIN", "CAP_SYS_ADMIN"]}},
}
for _source in ("/", "/proc", "/proc/1/root", "/sys/kernel", "/run/docker.sock", "/var/lib/skep"):
    REACHING[f"bind mount of {_source}"] = {
        "mounts": [{"type": "bind", "source": _source, "target": "/host", "readOnly": True}]
    }
KEPT_IN = {
    "security": {"noNewPrivileges": False, "seLinux": {"type": "container_init_t"}},
    "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
    "mounts": [{"target": "/data"}, {"type": "tmpfs", "target": "/tmp"}],
    "sysctls": {"net.core.somaxconn": 1},
    "shmSize": "128Mi",
    "devices": [{"resource": "gpu"}],
    "resources": {"reservations": {"generic": {"gpu": 1}}},
    "extraHosts": {"db": "192.0.2.7"},
}
IN_SHOP = Grant(role="operator", namespaces=["shop"])


@pytest.fixture
async def shop(server: Running) -> str:
    await server.put(Namespace(metadata=Metadata(name="shop", uid="ns-2")))
    return "shop"


@pytest.mark.parametrize("words", REACHING)
async def test_an_operator_of_a_namespace_stays_in_the_box(
    server: Running, shop: str, words: str
) -> None:
    wanted = service("web", shop, **REACHING[words])
    async with await user(server, "sam", IN_SHOP) as sam:
        assert f"to their node ({words})" in await refused(sam.create(wanted))
        with pytest.raises(ApiError) as caught:
            await sam.apply([wanted])
        assert words in str(caught.value.causes)
        assert (await sam.list(SERVICE, shop)).items == []


async def test_what_a_container_has_for_itself_is_anybodys(server: Running, shop: str) -> None:
    assert list(reaching(KEPT_IN)) == []
    async with await user(server, "sam", IN_SHOP) as sam:
        await sam.apply([service("web", shop, **KEPT_IN)])


@pytest.mark.parametrize("role", ["operator", "admin"])
async def test_who_has_the_whole_cluster_may(server: Running, shop: str, role: str) -> None:
    async with await user(server, "sam", IN_SHOP, Grant(role=role)) as sam:
        await sam.apply([service("web", shop, privileged=True)])


async def test_others_may_run_it_and_change_nothing_in_it(
    server: Running, admin: Client, shop: str
) -> None:
    await admin.create(service("web", shop, privileged=True))
    async with await user(server, "sam", IN_SHOP) as sam:
        await sam.patch(SERVICE, shop, "web", {"spec": {"replicas": 3}})
        await sam.patch(SERVICE, shop, "web", {"spec": {"template": {"forceUpdate": 1}}})
        other = {"spec": {"template": {"image": "demo/mine:1"}}}
        assert "(privileged)" in await refused(sam.patch(SERVICE, shop, "web", other))
        tamed = {"spec": {"template": {"image": "demo/mine:1", "privileged": False}}}
        await sam.patch(SERVICE, shop, "web", tamed)
