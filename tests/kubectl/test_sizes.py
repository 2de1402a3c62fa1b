"""How large secrets and configs may be, to the byte, by every door that they come in."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.client import ApiError, Client
from api.context import load
from api.pki.tls import client_context
from api.types.kinds import BY_NAME
from tests.cluster.harness import Cluster
from tests.kubectl.harness import Kubectl

LIMITS = {"Secret": 512_000, "Config": 1_024_000}
# What takes most room in JSON that is still text, and what takes least.
FILLS = (b"a", b'"', b"\n", b"\x00")


def manifest(kind: str, name: str, data: bytes) -> dict[str, Any]:
    plain, encoded = ("stringData", "data") if kind == "Secret" else ("data", "binaryData")
    given = {plain: {"key": data.decode()}} if data[:1] >= b"\n" and data.isascii() else {
        encoded: {"key": base64.b64encode(data).decode()}
    }  # fmt: skip
    return {
        "apiVersion": "skep.dev/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        **given,
    }


Door = Callable[[Cluster, Kubectl, Path, dict[str, Any]], "str"]


def by_apply(cluster: Cluster, kubectl: Kubectl, file: Path, it: dict[str, Any]) -> str:
    """What is said against it; empty where it is taken."""
    done = cluster.ctl("apply", "-f", str(file), check=False)
    return done.stderr if done.returncode else ""


def by_kubectl(cluster: Cluster, kubectl: Kubectl, file: Path, it: dict[str, Any]) -> str:
    done = kubectl.run("create", "-f", str(file))
    return done.stderr if done.returncode else ""


def by_kubectl_apply(cluster: Cluster, kubectl: Kubectl, file: Path, it: dict[str, Any]) -> str:
    done = kubectl.run("apply", "--server-side", "-f", str(file))
    return done.stderr if done.returncode else ""


def by_create(cluster: Cluster, kubectl: Kubectl, file: Path, it: dict[str, Any]) -> str:
    (data,) = [value for field in ("stringData", "data", "binaryData") if (value := it.get(field))]
    binary = "binaryData" in it or (it["kind"] == "Secret" and "data" in it)
    raw = base64.b64decode(data["key"]) if binary else data["key"].encode()
    content = file.with_suffix(".bytes")
    content.write_bytes(raw)
    words = ("create", it["kind"].lower(), it["metadata"]["name"], "--from-file", f"key={content}")
    done = cluster.ctl(*words, check=False)
    return done.stderr if done.returncode else ""


DOORS: list[Door] = [by_apply, by_create, by_kubectl, by_kubectl_apply]


@pytest.mark.parametrize("kind", LIMITS)
def test_to_the_byte(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, kind: str) -> None:
    most = LIMITS[kind]
    too_many = f"holds {most + 1} bytes, and at most {most} are allowed"
    least = "needs at least one byte" if kind == "Secret" else ""
    edges = {0: least, 1: "", most: "", most + 1: too_many}
    taken = set()
    for number, door in enumerate(DOORS):
        for size, words in edges.items():
            if size < most and door is not by_apply:
                continue
            name = f"size-{number}-{size}"
            fill = FILLS[number % len(FILLS)]
            it = manifest(kind, name, fill * size)
            file = tmp_path / "it.json"
            file.write_text(json.dumps(it))
            said = door(cluster, kubectl, file, it)
            where = f"{door.__name__}: {size} of {fill!r}: {said[:300]}"
            assert words in said, where
            assert bool(said) == bool(words), where
            assert (fill * 50).decode() not in said
            taken |= set() if words else {name}
    found = {each["metadata"]["name"] for each in cluster.items(f"{kind.lower()}s")}
    assert found == taken


async def test_to_the_byte_at_the_api_itself(cluster: Cluster) -> None:
    """Every filling, also those that JSON blows up to six times their size."""
    context = load(cluster.home / "manager" / "admin.yaml").select()
    url = f"https://127.0.0.1:{cluster.port}"
    async with Client(url, client_context(context.credentials()), patience=0) as client:
        for kind, most in LIMITS.items():
            for number, fill in enumerate((*FILLS, b"\x01", "é".encode()[:1])):
                name = f"raw-{number}"
                with pytest.raises(ApiError) as caught:
                    await client.create(manifest(kind, name, fill * (most + 1)))
                assert f"holds {most + 1} bytes, and at most {most} are" in str(caught.value)
                await client.create(manifest(kind, name, fill * most))
                await client.delete(BY_NAME[kind], "default", name)
