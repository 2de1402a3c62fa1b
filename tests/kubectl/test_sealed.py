"""Sealed secrets by kubectl: applied on either side, again and again, changed, and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.seal import keyfile
from api.seal.keyfile import KeyFile
from api.seal.place import Place, Scope
from api.seal.sealed import seal
from tests.cluster.harness import Cluster
from tests.kubectl.harness import Document, Kubectl, manifests


@pytest.fixture(scope="module")
def keys(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    path: Path = tmp_path_factory.mktemp("keys") / "key.json"
    cluster.ctl("seal", "key", "--fetch", str(path))
    return keyfile.parse(path.read_bytes())


def secret(keys: KeyFile, name: str, **texts: str) -> Document:
    sealed = {
        key: seal(text.encode(), Place("default", name, key), Scope.STRICT, keys.newest)
        for key, text in texts.items()
    }
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "sealed": sealed,
    }


def version(kubectl: Kubectl, name: str) -> tuple[int, dict[str, Any]]:
    status = kubectl.object("secret", name)["status"]
    return status["version"], status["sizes"]


@pytest.mark.parametrize("side", ["client", "server"])
def test_apply(kubectl: Kubectl, keys: KeyFile, side: str) -> None:
    words = ("--server-side",) if side == "server" else ()
    name = f"db-{side}"
    first = secret(keys, name, password="hunter2", user="me")
    kubectl.apply(first, words=words)
    assert version(kubectl, name) == (1, {"password": 7, "user": 2})
    kubectl.apply(first, words=words)
    kubectl.apply(secret(keys, name, password="hunter2", user="me"), words=words)
    assert version(kubectl, name)[0] == 1, "the same bytes, however often they are sealed"
    kubectl.apply(secret(keys, name, password="longer than before", user="me"), words=words)
    assert version(kubectl, name) == (2, {"password": 18, "user": 2})
    kubectl.apply(secret(keys, name, password="longer than before"), words=words)
    assert version(kubectl, name) == (3, {"password": 18})
    shown = kubectl("get", "secret", name, "-o", "yaml", "--show-managed-fields")
    assert "longer" not in shown and first["sealed"]["user"] not in shown
    kubectl("delete", "secret", name)


def test_diff_is_quiet_where_nothing_changed(kubectl: Kubectl, keys: KeyFile) -> None:
    document = secret(keys, "quiet", password="hunter2")
    kubectl.apply(document, words=("--server-side",))
    again = kubectl.run("diff", "--server-side", "-f", "-", stdin=manifests(document))
    assert (again.returncode, again.stdout) == (0, "")
    kubectl("delete", "secret", "quiet")


def test_patch_and_replace(kubectl: Kubectl, keys: KeyFile) -> None:
    kubectl("create", "-f", "-", stdin=manifests(secret(keys, "patched", password="1")))
    text = secret(keys, "patched", password="22")["sealed"]["password"]
    patch = f'{{"sealed": {{"password": "{text}"}}}}'
    kubectl("patch", "secret", "patched", "--type=merge", "-p", patch)
    assert version(kubectl, "patched") == (2, {"password": 2})
    kubectl("replace", "-f", "-", stdin=manifests(secret(keys, "patched", other="333")))
    assert version(kubectl, "patched") == (3, {"other": 3})
    kubectl("delete", "secret", "patched")


def test_what_does_not_open_is_refused_in_words(kubectl: Kubectl, keys: KeyFile) -> None:
    document = secret(keys, "right", password="hunter2")
    document["metadata"]["name"] = "wrong"
    for words in ((), ("--server-side",)):
        said = kubectl.fails("apply", "-f", "-", *words, stdin=manifests(document))
        assert "sealed.password: was sealed for another namespace, secret or key" in said
