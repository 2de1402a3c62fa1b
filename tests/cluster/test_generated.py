"""Generated and fetched secrets in real containers: TLS with them, rotation seen from inside."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, Cluster, Document, free_port, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

SERVE = """
import http.server, ssl
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/run/secrets/web-tls/tls.crt", "/run/secrets/web-tls/tls.key")
server = http.server.HTTPServer(("", 8443), http.server.SimpleHTTPRequestHandler)
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def values(home: Path) -> Path:
    """What the provider `values` gives to namespace default."""
    below = home / "values" / "default" / "db"
    below.mkdir(parents=True)
    (below / "password").write_text("first")
    return below


@pytest.fixture(scope="module")
def cluster(home: Path, values: Path, busybox: None) -> Iterator[Cluster]:
    subprocess.run([str(ROOT / "hack/images/build"), "python"], check=True, capture_output=True)
    providers = home / "providers.yaml"
    providers.touch(0o600)
    files = {"directory": f"{home}/values/{{namespace}}"}
    command = {"argv": ["/bin/hostname"], "format": "text"}
    defined = [
        {"name": "values", "namespaces": ["default", "ops"], "files": files},
        {"name": "hostname", "namespaces": ["ops"], "command": command},
    ]
    providers.write_text(json.dumps({"providers": defined}))  # JSON is YAML
    it = Cluster(home / "cluster", manager_options=("--providers", str(providers)))
    try:
        it.start()
        yield it
    finally:
        it.stop()


def secret(name: str, **fields: object) -> Document:
    return {"apiVersion": "skep.dev/v1", "kind": "Secret", "metadata": {"name": name}, **fields}


def version(cluster: Cluster, name: str) -> int:
    found = cluster.find("secret", name)
    return int((found or {}).get("status", {}).get("version", 0))


CAT = ("cat",)
READ = ("python3", "-c", "import sys; print(open(sys.argv[1]).read(), end='')")


def inside(cluster: Cluster, name: str, path: str, how: tuple[str, ...] = CAT) -> str:
    """A file as the service's container has it; empty where it runs none, or has none."""
    ids = cluster.running_of(name)
    if len(ids) != 1:
        return ""
    words = ["docker", "-H", f"unix://{cluster.socket}", "exec", ids.pop(), *how, path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout


def met(port: int, trust: str) -> str:
    """The serial number of the certificate that is shown, if it is good for the name `web`."""
    context = ssl.create_default_context(cadata=trust)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="web") as secure,
    ):
        shown = secure.getpeercert()
        return str(shown["serialNumber"]) if shown else ""


def meets(port: int, trust: str, before: str = "") -> str:
    """The same; empty while nobody is there, or it is still the one from before."""
    try:
        serial = met(port, trust)
    except ssl.SSLCertVerificationError:
        raise
    except OSError:  # nobody there, or just going
        return ""
    return serial if serial != before else ""


def test_a_service_serves_tls_with_a_generated_certificate_through_its_rotation(
    cluster: Cluster,
) -> None:
    port = free_port()
    certificate = {"ca": "shop-ca", "dnsNames": ["web"], "lifetime": "1d"}
    web = service("web")
    web["spec"]["template"] |= {
        "image": "skep-demo/python:3",
        "command": ["python3", "-c", SERVE],
        "init": True,
        "secrets": [{"name": "web-tls"}],
        "ports": [{"target": 8443, "published": port}],
    }
    web["spec"]["update"] = {"monitor": "100ms"}
    # In the wrong order: the service waits for its secret, and that for its authority.
    cluster.apply(web, secret("web-tls", generate={"tls": {"x509": certificate}}))
    words = "tls waits for its authority, secret shop-ca"
    until(lambda: words in cluster.ctl("describe", "secret", "web-tls").stdout, words)
    waits = f"waiting for secret default/web-tls, which is not made yet: {words}"
    until(lambda: waits in cluster.ctl("get", "tasks", "-o", "json").stdout, "its task says so")
    cluster.apply(
        secret("shop-ca", generate={"ca": {"x509": {"isCA": True, "commonName": "shop"}}})
    )
    cluster.until_running("web", 1)
    bundle = "/run/secrets/web-tls/ca.crt"
    trust = inside(cluster, "web", bundle, READ)
    assert trust.count("BEGIN CERTIFICATE") == 1
    first = until(lambda: meets(port, trust), "it serves TLS")
    shown = cluster.ctl("describe", "secret", "web-tls").stdout
    assert "good until" in shown
    assert "in " in cluster.ctl("get", "secret", "web-tls").stdout  # the next rotation

    cluster.ctl("secret", "rotate", "web-tls")
    second = until(lambda: meets(port, trust, first), "it has a new certificate")

    cluster.ctl("secret", "rotate", "shop-ca")
    third = until(lambda: meets(port, trust, second), "it followed its authority")
    assert third not in (first, second)
    # Who has the old authority only accepts the new certificate, and who has both as well.
    both = until(lambda: inside(cluster, "web", bundle, READ), "it runs")
    assert both.count("BEGIN CERTIFICATE") == 2
    assert met(port, both) == third
    assert version(cluster, "web-tls") == 3
    cluster.ctl("delete", "service", "web")


def test_a_generated_password_is_swapped_in_place_and_is_nowhere_else(cluster: Cluster) -> None:
    cluster.apply(
        secret("db", stringData={"user": "app"}, generate={"password": {"length": 40}}),
        service("app", secrets=[{"name": "db", "onChange": "none"}]),
    )
    cluster.until_running("app", 1)
    assert inside(cluster, "app", "/run/secrets/db/user") == "app"
    first = inside(cluster, "app", "/run/secrets/db/password")
    assert len(first) == 40
    assert version(cluster, "db") == 1  # nobody ever saw a half
    before = cluster.pids()
    cluster.ctl("secret", "rotate", "db")

    def new() -> str:
        found = inside(cluster, "app", "/run/secrets/db/password")
        return found if found != first else ""

    second = until(new, "the new password is there")
    assert len(second) == 40
    assert cluster.pids() == before
    told = [
        cluster.ctl("get", "secret", "db", "-o", "yaml").stdout,
        cluster.ctl("describe", "secret", "db").stdout,
        cluster.ctl("events").stdout,
        cluster.log("manager"),
        cluster.log("agent"),
        (cluster.home / "manager" / "audit.log").read_text(),
    ]
    for value in (first, second):
        assert not any(value in text for text in told)
    # A manager that is killed in between goes on where things are.
    cluster.kill("manager")
    cluster.start_manager()
    assert version(cluster, "db") == 2
    cluster.ctl("delete", "service", "app")


def test_what_is_fetched_follows_its_provider_and_stays_when_that_fails(
    cluster: Cluster, values: Path
) -> None:
    source = {"provider": "values", "path": "db", "refresh": "10s"}
    cluster.apply(
        secret("fetched", source=source),
        service("reader", secrets=[{"name": "fetched", "onChange": "none"}]),
    )
    cluster.until_running("reader", 1)
    where = "/run/secrets/fetched"

    def reads() -> str:
        return inside(cluster, "reader", where) or inside(cluster, "reader", f"{where}/password")

    assert reads() == "first"
    (values / "password").write_text("second")
    until(lambda: reads() == "second", "the change arrives", 40)
    values.rename(values.with_name("away"))
    cluster.ctl("secret", "rotate", "fetched")  # does not wait for the next look
    until(lambda: "FetchFailed" in cluster.ctl("get", "secrets").stdout, "the failure is said", 40)
    assert reads() == "second"
    values.with_name("away").rename(values)
    until(lambda: "FetchFailed" not in cluster.ctl("get", "secrets").stdout, "it is well again", 40)
    cluster.ctl("delete", "service", "reader")


def test_a_provider_of_another_namespace_is_as_if_it_were_not(cluster: Cluster) -> None:
    cluster.apply(
        secret("theirs", source={"provider": "hostname"}),
        secret("nothing", source={"provider": "nothing"}),
    )
    for name, provider in (("theirs", "hostname"), ("nothing", "nothing")):
        words = f"there is no provider {provider} for namespace default"
        until(lambda: words in cluster.ctl("describe", "secret", name).stdout, words)  # noqa: B023
    refused = cluster.apply(
        secret("out", source={"provider": "values", "path": "../ops/db"}), check=False
    )
    assert refused.returncode
    assert "source.path" in refused.stderr
