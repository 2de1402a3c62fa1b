"""Images from a registry with a password, whose login is a Secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.agent.registry import PASSWORD, PROGRAM, Registry
from tests.cluster.harness import Cluster, Document, service, until
from tests.cluster.test_template import Inside, secret

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.engine,
    pytest.mark.etcd,
    pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason="hack/install registry"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Registry]:
    it = Registry(tmp_path_factory.mktemp("closed") / "registry", password=True)
    try:
        it.start()
        it.push()
        yield it
    finally:
        it.stop()


def error_of(cluster: Cluster, name: str) -> str:
    tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == name]
    return str(tasks[0]["status"].get("error", "")) if tasks else ""


def once(name: str, **template: object) -> Document:
    wanted = service(name, **template)  # type: ignore[arg-type]
    wanted["spec"]["restart"] = {"condition": "none"}
    return wanted


def test_a_secret_logs_in_and_stays_out_of_the_container(
    cluster: Cluster, registry: Registry
) -> None:
    config = json.dumps(registry.config(PASSWORD))
    cluster.apply(
        secret("registry-login", **{".dockerconfigjson": config}),
        once("inside", image=registry.image, imageCredentials="registry-login"),
    )
    (task,) = cluster.until_running("inside", 1)
    inside = Inside(cluster, task)
    assert inside.run("ls /small") == "/small"
    password = registry.config(PASSWORD)["auths"][registry.address]["auth"]  # type: ignore[index]
    assert inside.run("ls /run/secrets 2>/dev/null || echo none") == "none"
    assert password not in json.dumps(inside.engine)
    cluster.ctl("delete", "service", "inside")


def test_without_a_login_it_says_what_to_do(cluster: Cluster, registry: Registry) -> None:
    until(lambda: not cluster.running_of("inside", every=True), "the other has gone")
    registry.forget()
    cluster.apply(
        secret("other", password="x"),
        once("outside", image=registry.image),
        once("keyless", image=registry.image, imageCredentials="other"),
    )
    said = until(lambda: error_of(cluster, "outside"), "it is refused")
    assert f"does not let node {cluster.node} pull {registry.image}" in said
    assert "imageCredentials" in said
    said = until(lambda: error_of(cluster, "keyless"), "its secret is no login")
    assert "secret default/other has no key .dockerconfigjson or config.json" in said
    cluster.ctl("delete", "service", "outside", "keyless")


def test_never_is_refused_where_the_image_is_not(cluster: Cluster, registry: Registry) -> None:
    registry.forget()
    cluster.apply(once("never", image=registry.image, imagePull="never"))
    said = until(lambda: error_of(cluster, "never"), "it is refused")
    assert f"is not on node {cluster.node}, and imagePull is never" in said
    cluster.ctl("delete", "service", "never")
