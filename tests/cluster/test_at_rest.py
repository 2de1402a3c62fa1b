"""Encryption at rest on a real manager and its etcd: keys, the lock, and attacks on both.

The attacker has etcd: its client certificate, or its disk. Containers are simulated.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.context import load
from api.store.channel import TLSFiles
from api.store.contract import KeyValue, Write
from api.store.etcd import EtcdStore
from api.store.keys import RING, ROOT
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring
from api.trust.records import TRUST
from api.types.keys import UNLOCK_NAME, UNLOCK_PATH
from api.vault.anchor import Anchor
from api.vault.envelope import key_of
from api.vault.key import UnlockKey, VaultKey
from api.vault.local import LocalKeys
from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


class Sealed(Cluster):
    """With what an attacker does to its etcd."""

    @property
    def key_file(self) -> Path:
        return self.home / "manager" / "vault.key"

    def attack(self, work: Any) -> Any:
        """Do `work(store)` with the manager's etcd, as whoever stole its certificate."""

        async def with_store() -> Any:
            ports = json.loads((self.home / "manager" / "etcd" / "member.json").read_text())
            keys = self.home / "manager" / "pki" / "etcd"
            tls = TLSFiles(keys / "ca.crt", keys / "etcd.crt", keys / "etcd.key")
            store = EtcdStore([f"https://127.0.0.1:{ports['client']}"], tls)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(with_store())

    def stored(self) -> dict[str, KeyValue]:
        """All of it, as it is in etcd."""

        async def read(store: EtcdStore) -> dict[str, KeyValue]:
            return {item.key: item for item in (await store.list(ROOT)).items}

        found: dict[str, KeyValue] = self.attack(read)
        return found

    def put(self, **values: bytes) -> None:
        async def write(store: EtcdStore) -> None:
            await store.commit([Write(key, value) for key, value in values.items()])

        self.attack(write)

    def encryption(self) -> str:
        """What `ctl get components` says of it."""
        parts = json.loads(self.ctl("get", "components", "-o", "json").stdout)
        return str(next(part["message"] for part in parts if part["name"] == "encryption"))

    def key_status(self) -> Document:
        found: Document = json.loads(self.ctl("keys", "status", "-o", "json").stdout)
        return found

    def unusable(self) -> set[str]:
        return set(self.key_status().get("unopened", {}))

    def refuses_to_start(self) -> str:
        """What the manager says when it ends at once."""
        before = len(self.log("manager"))
        self._start(
            "manager",
            *("manager", "--data-dir", str(self.home / "manager")),
            *("--listen", f"127.0.0.1:{self.port}"),
        )
        assert self.running.pop("manager").wait(60) == 1
        said = self.log("manager")[before:]
        assert "Traceback" not in said
        return said

    def start_locked(self) -> None:
        before = len(self.log("manager"))
        self._start(
            "manager",
            *("manager", "--data-dir", str(self.home / "manager")),
            *("--listen", f"127.0.0.1:{self.port}"),
        )
        until(lambda: "ctl unlock" in self.log("manager")[before:], "it waits for its key")


def config(name: str, text: str = "plain words") -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": {"file": text},
    }


def key(name: str, kind: str = "configs") -> str:
    return f"{ROOT}objects/{kind}/default/{name}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    it = Sealed(tmp_path_factory.mktemp("cluster"), driver="simulated")
    try:
        it.start()
        yield it
    finally:
        it.stop()
    assert "Traceback" not in it.log("manager")


# What is in etcd


def test_every_value_in_etcd_is_sealed_with_the_data_key(cluster: Sealed) -> None:
    cluster.apply(config("words"), service("web"))
    cluster.until_running("web", 1)
    (data_key,) = [each["id"] for each in cluster.key_status()["keys"]]
    stored = cluster.stored()
    assert len(stored) > 10
    for name, item in stored.items():
        assert name == RING or key_of(item.value).hex() == data_key, name
        assert b"plain words" not in item.value
        assert b"apiVersion" not in item.value


def test_changed_values_are_named_and_stop_nothing(cluster: Sealed) -> None:
    names = ["swapped", "other", "flipped", "cut", "forged", "fine"]
    cluster.apply(*(config(name) for name in names))
    stored = {name: cluster.stored()[key(name)].value for name in names}
    flipped = stored["flipped"]
    cluster.put(**{
        key("swapped"): stored["other"],
        key("flipped"): flipped[:70] + bytes([flipped[70] ^ 1]) + flipped[71:],
        key("cut"): stored["cut"][:-1],
        key("forged"): b'{"apiVersion":"skep.dev/v1","kind":"Config","metadata":{"name":"forged"}}',
        key("web", "services"): stored["other"],
    })  # fmt: skip
    broken = {key(name) for name in ("swapped", "flipped", "cut", "forged")}
    broken.add(key("web", "services"))
    until(lambda: cluster.unusable() == broken, "all five are named")
    assert "5 values can't be used" in cluster.encryption()
    (task,) = cluster.tasks("web", "Running")
    assert key("cut") in cluster.ctl("keys", "status").stdout
    # What they were before is still known, and all else goes on, after a restart too.
    cluster.apply(config("fine", "changed"))
    cluster.kill("manager", signal.SIGTERM)
    cluster.start_manager()
    assert cluster.unusable() == broken
    found = cluster.find("config", "fine")
    assert found is not None and found["data"] == {"file": "changed"}
    assert cluster.find("config", "cut") is None
    cluster.apply(config("another"))
    # What can't be read is not taken for gone: its containers run on.
    assert [each["metadata"]["uid"] for each in cluster.tasks("web")] == [task["metadata"]["uid"]]
    # Not even what they were can be put back; but they can be made anew.
    cluster.put(**{key("cut"): stored["cut"]})
    until(lambda: "put back" in cluster.encryption(), "the old value is refused")
    for name in broken:
        assert "discarded" in cluster.ctl("keys", "discard", name).stdout
    assert cluster.ctl("keys", "discard", key("fine"), check=False).returncode == 3
    until(lambda: not cluster.unusable(), "none is left")
    until(lambda: not cluster.tasks("web"), "what belonged to it goes when it is discarded")
    cluster.apply(config("cut"), service("web"))
    cluster.until_running("web", 1)


def test_an_older_value_that_is_put_back_is_refused(cluster: Sealed) -> None:
    cluster.apply(config("back", "1"))
    cluster.apply(config("back", "2"))
    old = cluster.stored()[key("back")]
    cluster.apply(config("back", "3"))
    cluster.put(**{key("back"): old.value})
    until(lambda: "put back" in cluster.encryption(), "it is named")
    found = cluster.find("config", "back")
    assert found is not None and found["data"] == {"file": "3"}
    assert cluster.ctl("delete", "config", "back", check=False).returncode == 5
    cluster.ctl("keys", "discard", key("back"))
    until(lambda: cluster.find("config", "back") is None, "it is gone")
    assert not cluster.unusable()


# Keys


def test_a_rotation_goes_on_after_the_manager_is_killed_in_it(cluster: Sealed) -> None:
    cluster.apply(*(config(f"many-{n}", f"text {n}") for n in range(600)))
    before = cluster.key_status()["keys"][0]["id"]

    async def rotate() -> None:
        async with load(cluster.home / "manager" / "admin.yaml").select().client() as client:
            assert len((await client.keys(rotate=True)).keys) == 2
            cluster.kill("manager")

    asyncio.run(rotate())
    said = len(cluster.log("manager"))
    cluster.start_manager()
    until(lambda: len(cluster.key_status()["keys"]) == 1, "the old key is dropped")
    assert "re-encrypting" in cluster.log("manager")[said:]
    after = cluster.key_status()
    assert after["keys"][0]["id"] != before
    assert _sealing(cluster) == {after["keys"][0]["id"]}
    assert not cluster.unusable()
    assert "encrypts" in cluster.ctl("keys", "list").stdout
    for n in (0, 299, 599):
        found = cluster.find("config", f"many-{n}")
        assert found is not None and found["data"] == {"file": f"text {n}"}
    done = cluster.ctl("keys", "rotate", "--wait")
    assert "everything is encrypted with data key" in done.stdout


def _sealing(cluster: Sealed) -> set[str]:
    stored = cluster.stored()
    return {key_of(item.value).hex() for name, item in stored.items() if name != RING}


def test_a_lost_an_old_or_another_key_file_is_said_and_nothing_is_overwritten(
    cluster: Sealed,
) -> None:
    replaced = cluster.key_file.read_text()
    cluster.ctl("keys", "rewrap", "--wait")
    kept = cluster.key_file.read_text()
    assert kept != replaced and len(kept.split()) == 1
    cluster.kill("manager")
    cluster.key_file.unlink()
    assert "Bring the file from a backup" in cluster.refuses_to_start()
    assert not cluster.key_file.exists()
    cluster.key_file.touch(mode=0o600)
    assert "is empty" in cluster.refuses_to_start()
    for other in (replaced, VaultKey.new().text()):
        cluster.key_file.write_text(other)
        assert "bring vault.key of another manager" in cluster.refuses_to_start()
        assert cluster.key_file.read_text() == other
    cluster.key_file.write_text(kept)
    cluster.start_manager()
    assert cluster.find("config", "words") is not None
    assert not cluster.unusable()


# The lock


@pytest.mark.deadline(180)
def test_a_locked_manager_serves_nothing_until_it_has_its_key(cluster: Sealed) -> None:
    key = cluster.ctl("lock", "enable").stdout.strip()
    assert UnlockKey.parse(key).text() == key
    assert "locked with unlock key" in cluster.ctl("lock", "status").stdout
    assert "SKEPKEY" not in cluster.key_file.read_text()
    (task,) = cluster.tasks("web", "Running")
    cluster.kill("manager")
    cluster.start_locked()
    refused = cluster.ctl("get", "services", check=False)
    assert refused.returncode != 0 and "ctl unlock" in refused.stderr

    door = Door(cluster)
    answers = {door.unlock(UnlockKey.new().text()) for _ in range(10_000)}
    assert answers == {(403, "this is not the unlock key of this manager")}
    for rubbish in ("", "x" * 3000, "SKEPULK-1-", VaultKey.new().text(), "\0\n"):
        assert door.unlock(rubbish)[0] == 403
    assert door.ask("POST", UNLOCK_PATH, b"{" * 4000)[0] == 400
    assert door.ask("POST", UNLOCK_PATH, b"x" * 100_000)[0] == 413
    assert door.ask("GET", "/apis/skep.dev/v1/secrets", None)[0] == 503
    door.close()
    assert cluster.log("manager").count("a wrong unlock key") < 20

    assert "is unlocked" in cluster.ctl("unlock", stdin=key + "\n").stdout
    cluster.until_up()
    assert "is not locked" in cluster.ctl("unlock", stdin=key).stderr
    # The agent and its containers went on, and it comes back by itself.
    until(cluster.ready, "the node is ready again")
    uids = [each["metadata"]["uid"] for each in cluster.tasks("web", "Running")]
    assert uids == [task["metadata"]["uid"]]


def test_a_lock_is_changed_and_taken_off(cluster: Sealed) -> None:
    old, new = UnlockKey.new().text(), cluster.ctl("lock", "rotate").stdout.strip()
    cluster.kill("manager")
    cluster.start_locked()
    wrong = cluster.ctl("unlock", stdin=old, check=False)
    assert wrong.returncode == 1 and "not the unlock key" in wrong.stderr
    assert old not in wrong.stderr
    cluster.ctl("unlock", stdin=new)
    cluster.until_up()
    cluster.ctl("lock", "disable")
    assert cluster.ctl("lock", "status").stdout.strip() == "off"
    assert "SKEPKEY" in cluster.key_file.read_text()
    for key in (old, new):
        assert key not in cluster.log("manager")


def test_what_a_locked_managers_disk_holds_poses_as_no_manager(cluster: Sealed) -> None:
    """The certificate for unlocking is good for one name, which no client asks for."""
    kept = json.loads((cluster.home / "manager" / "unlock.json").read_text())
    context = load(cluster.home / "manager" / "admin.yaml").select()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = cluster.home / "thief.pem"
    pem.write_text(kept["cert"] + kept["key"])
    server.load_cert_chain(pem)
    pem.unlink()
    assert _accepted(context.tls(), server, UNLOCK_NAME)
    for name in ("127.0.0.1", "localhost", socket.gethostname()):
        assert not _accepted(context.tls(), server, name), name


# From an earlier version


def test_a_store_of_an_earlier_version_is_sealed_when_its_manager_starts(
    cluster: Sealed, tmp_path: Path
) -> None:
    words = "of an earlier version"
    cluster.apply(config("old", words))
    token = cluster.ctl("token", "show", "worker", "-q").stdout
    until(cluster.ready, "the node is ready")
    cluster.running["manager"].send_signal(signal.SIGSTOP)
    cluster.attack(lambda store: _as_earlier(store, LocalKeys.load(cluster.key_file), tmp_path))
    cluster.kill("manager")
    for made in ("seen.json", "unlock.json"):
        (cluster.home / "manager" / made).unlink()
    cluster.start_manager()
    until(lambda: "reencryption" not in cluster.key_status(), "all is sealed")
    assert len(_sealing(cluster)) == 1
    found = cluster.find("config", "old")
    assert found is not None and found["data"] == {"file": words}
    assert cluster.ctl("token", "show", "worker", "-q").stdout == token
    until(cluster.ready, "the node is ready again")
    database = cluster.home / "manager" / "etcd" / "data" / "member" / "snap" / "db"
    until(lambda: words.encode() not in database.read_bytes(), "etcd's database forgets it")
    cluster.put(**{key("old"): b"{}"})
    until(lambda: cluster.unusable() == {key("old")}, "what is not sealed is refused from now on")


async def _as_earlier(store: EtcdStore, keys: LocalKeys, scratch: Path) -> None:
    """All values in the clear, the authority's keys sealed by themselves, and no ring."""
    ring = Keyring(store, [keys], Anchor(scratch / "seen.json"))
    await ring.open()
    writes = [Write(RING, None)]
    for item in (await SealedStore(store, ring.envelope, ring.refresh).list(ROOT)).items:
        if item.key == RING:
            continue
        if item.lease:
            writes.append(Write(item.key, None))
            continue
        value = item.value
        if item.key.startswith(TRUST):
            record = json.loads(value)
            for field in {"key", "secret", "private"} & record.keys():
                inner = keys.vault.seal(item.key, base64.b64decode(record[field]))
                record[field] = base64.b64encode(inner).decode()
            value = json.dumps(record).encode()
        writes.append(Write(item.key, value))
    await store.write(writes)


def _accepted(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """Whether a client that wants to reach `name` takes the server for it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=name)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
            if side is ours:
                return True
    raise AssertionError("the handshake does not end")


class Door:
    """One connection to a locked manager, made anew where it was closed."""

    def __init__(self, cluster: Cluster) -> None:
        self._port = cluster.port
        self._tls = load(cluster.home / "manager" / "admin.yaml").select().tls()
        self._connection = self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        plain = socket.create_connection(("127.0.0.1", self._port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sock = self._tls.wrap_socket(plain, server_hostname=UNLOCK_NAME)
        return made

    def ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body=body)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.will_close:
            self._connection.close()
            self._connection = self._connected()
        return answer.status, said

    def close(self) -> None:
        self._connection.close()

    def unlock(self, key: str) -> tuple[int, str]:
        code, said = self.ask("POST", UNLOCK_PATH, json.dumps({"key": key}).encode())
        return code, json.loads(said).get("message", "")
