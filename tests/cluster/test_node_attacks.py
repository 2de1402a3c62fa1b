"""A container that goes after the secrets of others on its node."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.client import ApiError, Client
from api.membership import join
from api.pki.tls import client_context
from api.types.assignment import SessionRequest, StatusReport
from api.types.kinds import REVISION, SECRET
from api.types.task import TaskState, TaskStatus
from tests.cluster.harness import IMAGE, Cluster, Document, children, service, until
from tests.cluster.test_template import Inside, secret

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

PRIZE = f"prize-{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def victim(cluster: Cluster) -> Iterator[Inside]:
    cluster.apply(
        secret("prize", value=PRIZE),
        service(
            "victim",
            secrets=[{"name": "prize"}],
            secretFiles=[{"target": "made", "content": "<{{ secrets.prize }}>"}],
        ),
    )
    (task,) = cluster.until_running("victim", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "victim", check=False)
    until(lambda: not cluster.running_of("victim", every=True), "its container is gone")


@pytest.fixture(scope="module")
def thief(cluster: Cluster, victim: Inside) -> Iterator[Inside]:
    """As root, with the node's root and the directory above all that is skep's."""
    mounts = [
        {"type": "bind", "source": "/", "target": "/host", "readOnly": True},
        {"type": "bind", "source": str(cluster.home), "target": "/up"},
    ]
    cluster.apply(service("thief", mounts=mounts))
    (task,) = cluster.until_running("thief", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "thief", check=False)
    until(lambda: not cluster.running_of("thief", every=True), "its container is gone")


def held(cluster: Cluster) -> list[Path]:
    """The files on the node that hold the prize, as root finds them."""
    files = [path for path in (cluster.home / "run").rglob("*") if path.is_file()]
    return [path for path in files if PRIZE.encode() in path.read_bytes()]


def test_the_prize_is_there_to_be_taken(cluster: Cluster, victim: Inside) -> None:
    assert victim.run("cat /run/secrets/prize") == PRIZE
    assert victim.run("cat /run/secrets/made") == f"<{PRIZE}>"
    assert len(held(cluster)) == 2


def test_mounts_of_what_is_above_show_nothing_of_it(cluster: Cluster, thief: Inside) -> None:
    assert thief.run("ls /up | tr '\\n' ' '").split() >= ["agent", "agent.log"]
    for path in held(cluster):
        inside = path.relative_to(cluster.home)
        for seen in (f"/up/{inside}", f"/host{path}", f"/host{path.resolve()}"):
            assert PRIZE not in thief.run(f"cat {seen} 2>&1 || true")
    for closed in ("run", "agent"):
        for above in ("/up", f"/host{cluster.home}"):
            assert thief.run(f"ls -A {above}/{closed}") == "", "an empty directory lies over it"
            words = thief.run(
                f"umount {above}/{closed} 2>&1 || true; echo x >{above}/{closed}/x || true"
            )
            assert "x" not in thief.run(f"ls -A {above}/{closed}"), words


def test_the_nodes_root_shows_neither_processes_nor_engines(
    cluster: Cluster, victim: Inside, thief: Inside
) -> None:
    """By way of /proc/PID/root one container's root sees another's mounted secrets."""
    assert thief.run("ls -A /host/proc") == ""
    theirs = f"/host/proc/{victim.engine['State']['Pid']}/root/run/secrets/prize"
    assert PRIZE not in thief.run(f"cat {theirs} 2>&1 || true")
    socket = Path(cluster.socket).resolve()
    assert thief.run(f"test -S /host{socket} && echo socket || echo none") == "none"
    for path in held(cluster):
        assert PRIZE not in thief.run(f"cat /host{path} 2>&1 || true")


@pytest.fixture(scope="module")
def watcher(cluster: Cluster, victim: Inside) -> Iterator[Inside]:
    """With the node's processes, which takes a role for the whole cluster, and is warned of."""
    mounts = [{"type": "bind", "source": "/proc", "target": "/host-proc"}]
    said = cluster.apply(service("watcher", mounts=mounts)).stderr
    assert "bind mount of /proc: whoever runs in there sees into every container" in said
    (task,) = cluster.until_running("watcher", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "watcher", check=False)
    until(lambda: not cluster.running_of("watcher", every=True), "its container is gone")


def test_the_agents_process_is_closed(cluster: Cluster, watcher: Inside) -> None:
    """Both roots are one user to the kernel; the agent's has more rights, and isn't dumpable."""
    agent = cluster.running["agent"].pid
    renderers = children(agent, "python") + children(agent, "python3")
    path = held(cluster)[0]
    for pid in (agent, *renderers):
        for name in ("mem", "environ", "maps", f"root{path}", f"cwd{path}", "fd/0"):
            words = watcher.run(f"head -c 16 /host-proc/{pid}/{name} 2>&1 | cat -v || true")
            assert "ermission denied" in words or "can't open" in words, (name, words)
        words = watcher.run(f"nsenter -t {pid} -m cat {path} 2>&1 || true")
        assert PRIZE not in words
    # Nor by way of the machine's first process, whose root directory is the node's.
    assert PRIZE not in watcher.run(f"cat /host-proc/1/root{path} 2>&1 || true")


def test_devices_and_mounts_are_the_kernels(cluster: Cluster, thief: Inside) -> None:
    words = thief.run("mount -t tmpfs none /tmp 2>&1 || true")
    assert "denied" in words or "not permitted" in words
    words = thief.run("mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1 || true")
    assert "not permitted" in words, "the node's memory"


def errors(cluster: Cluster, *names: str) -> dict[str, str]:
    """What the services' tasks failed of, once each has said so."""

    def said() -> dict[str, str]:
        found = {task["spec"]["service"]: task["status"] for task in cluster.items("tasks")}
        words = {name: str(found[name].get("error", "")) for name in names if name in found}
        return words if len(words) == len(names) and all(words.values()) else {}

    try:
        return until(said, "each says why not")
    finally:
        cluster.ctl("delete", "service", *names)


def once(name: str, **template: Any) -> Document:
    wanted = service(name, **template)
    wanted["spec"]["restart"] = {"condition": "none"}
    return wanted


def test_mounts_of_skeps_own_are_refused(cluster: Cluster, victim: Inside) -> None:
    link = cluster.home / "link"
    link.symlink_to(cluster.home / "run" / cluster.node)
    places = ["run", f"run/{cluster.node}", f"run/{cluster.node}/secrets", "agent", "link"]
    wanted = {f"inside-{number}": str(cluster.home / at) for number, at in enumerate(places)}
    cluster.apply(
        *(
            once(name, mounts=[{"type": "bind", "source": source, "target": "/got"}])
            for name, source in wanted.items()
        )
    )
    for name, words in errors(cluster, *wanted).items():
        assert f"bind mount of {wanted[name]}: " in words
        assert "is skep's own, and is not shown to containers; mount another directory" in words


# With a worker's certificate, at the manager.


async def test_a_worker_gets_no_secret_of_another_and_none_when_it_is_removed(
    cluster: Cluster, victim: Inside
) -> None:
    token = cluster.ctl("token", "show", "worker", "-q").stdout.strip()
    url = f"https://127.0.0.1:{cluster.port}"
    member, _ = await join([url], token, name="thief")
    async with Client(url, client_context(member.credentials), patience=0) as thief:
        await thief.open_session("thief", SessionRequest())
        messages = thief.assignments("thief")
        assert (await anext(messages)).secrets == []
        (theirs,) = cluster.tasks("victim")
        metadata = theirs["metadata"]
        claim = StatusReport(
            namespace="default",
            name=metadata["name"],
            uid=metadata["uid"],
            status=TaskStatus(state=TaskState.FAILED),
        )
        (rejected,) = (await thief.report("thief", [claim])).rejected
        assert rejected.reason == "OtherNode"
        await told_nothing(thief, cluster.node, 403)
        cluster.ctl("node", "rm", "thief", "--force")
        async with asyncio.timeout(30):
            assert [message async for message in messages if message.secrets] == []
        await told_nothing(thief, cluster.node, 401)
    assert victim.run("cat /run/secrets/prize") == PRIZE


async def told_nothing(thief: Client, node: str, code: int) -> None:
    for attempt in (
        thief.list(SECRET),
        thief.list(SECRET, "default"),
        thief.get(SECRET, "default", "prize"),
        anext(thief.watch(SECRET)),
        thief.list(REVISION),
        anext(thief.assignments(node)),
        thief.open_session(node, SessionRequest()),
        thief.apply([secret("prize", value="mine")]),
    ):
        with pytest.raises(ApiError) as caught:
            await attempt
        assert caught.value.code == code
        assert PRIZE not in str(caught.value)


# Where secrets are put in a container.


def test_targets_that_lead_astray_are_refused_by_field(cluster: Cluster) -> None:
    astray = {
        "../../etc/passwd": "without '..'",
        "/run/secrets/../..": "without '..'",
        "/": "a file's path, relative or absolute",
        "/proc/1/environ": "/proc/1/environ is in /proc, which is the kernel's; give it another",
        "//proc//self/x": "/proc/self/x is in /proc, which is the kernel's; give it another",
        "/sys/kernel/x": "/sys/kernel/x is in /sys, which is the kernel's; give it another",
        "/etc/hosts": "/etc/hosts names the namespace's services, and is kept by the node",
        "a\0b": "a file's path, relative or absolute",
        "a\nb": "a file's path, relative or absolute",
        "trailing/": "a file's path, relative or absolute",
        ".": "a file's path, relative or absolute",
    }
    mounts = [{"name": "prize", "target": target} for target in astray]
    done = cluster.apply(service("astray", secrets=mounts), check=False)
    assert done.returncode
    lines = done.stderr.splitlines()
    for index, words in enumerate(astray.values()):
        place = f"spec.template.secrets[{index}].target"
        assert any(place in line and words in line for line in lines), (place, words, lines)
    twice = [{"name": "prize", "target": "/etc/a"}, {"name": "prize", "target": "/etc//a"}]
    done = cluster.apply(service("astray", secrets=twice), check=False)
    assert "secrets[1].target: /etc/a is taken by spec.template.secrets[0]" in done.stderr
    assert not cluster.tasks("astray")


@pytest.fixture(scope="module")
def crooked(cluster: Cluster) -> Iterator[str]:
    """An image whose links lead out of it, to the kernel's files, and to each other."""
    name = f"skep-crooked:{cluster.node}"
    made = cluster.docker(
        *("run", "-d", "--name", f"crooked-{cluster.node}", IMAGE, "sh", "-c"),
        "mkdir /real; ln -s /real /same; ln -s ../../../../../../.. /out; ln -s /proc /kernel;"
        f"ln -s {cluster.home} /home/node; ln -s /etc/shadow /shadow",
    ).strip()  # fmt: skip
    cluster.docker("wait", made)
    cluster.docker("commit", made, name)
    cluster.docker("rm", made)
    yield name
    cluster.docker("rmi", "-f", name)


def test_links_in_an_image_lead_nowhere_but_into_the_container(
    cluster: Cluster, victim: Inside, crooked: str
) -> None:
    before = sorted(path for path in cluster.home.iterdir())
    mounts = [
        {"name": "prize", "target": "/same/a"},
        {"name": "prize", "target": "/out/planted-by-test"},
        {"name": "prize", "target": "/home/node/planted-by-test"},
    ]
    cluster.apply(service("crooked", image=crooked, secrets=mounts))
    (task,) = cluster.until_running("crooked", 1)
    inside = Inside(cluster, task)
    try:
        for path in ("/real/a", "/planted-by-test", f"{cluster.home}/planted-by-test"):
            assert inside.run(f"cat {path}") == PRIZE
        assert not Path("/planted-by-test").exists()
        assert sorted(path for path in cluster.home.iterdir()) == before
    finally:
        cluster.ctl("delete", "service", "crooked")
    until(lambda: not cluster.running_of("crooked", every=True), "its container is gone")


def test_a_link_to_the_kernels_files_is_refused(
    cluster: Cluster, victim: Inside, crooked: str
) -> None:
    mounts = [{"name": "prize", "target": "/kernel/a"}]
    cluster.apply(once("kernel", image=crooked, secrets=mounts))
    words = errors(cluster, "kernel")["kernel"]
    assert f"nothing can be mounted at /kernel/a: in image {crooked} a link leads from" in words
    assert "into /proc, which is the kernel's; give another target" in words
