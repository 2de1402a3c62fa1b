"""`ctl apply`: everything that manifests can come from, and nothing half done."""

from __future__ import annotations

import functools
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def names(ctl: Ctl, kinds: str = "configs") -> list[str]:
    return ctl("get", kinds, "-o", "name").lines


def test_a_file_is_created_then_unchanged_then_configured(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text(config("a", k="1")))
    assert ctl.program("apply", "-f", "a.yaml").out == "config/a created\n"
    assert ctl("apply", "-f", str(file)).out == "config/a unchanged\n"
    file.write_text(text(config("a", k="2")))
    assert ctl("apply", "-f", str(file)).out == "config/a configured\n"


def test_several_files_documents_and_a_list_go_together(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"# two\n---\n{text(config('a'), config('b'))}\n---\n")
    items = {"apiVersion": "v1", "kind": "List", "items": [config("c"), service("s", replicas=0)]}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(items))
    done = ctl("apply", "-f", str(tmp_path / "a.yaml"), "-f", str(tmp_path / "list.yaml"))
    assert done.lines == ["config/a created", "config/b created", "config/c created",
                          "service/s created"]  # fmt: skip


def test_a_directory_is_read_and_below_it_only_when_asked(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "m" / "below").mkdir(parents=True)
    (tmp_path / "m" / "a.yaml").write_text(text(config("a")))
    (tmp_path / "m" / "b.json").write_text(text(config("b")))
    (tmp_path / "m" / "notes.txt").write_text("not a manifest")
    (tmp_path / "m" / "below" / "c.yml").write_text(text(config("c")))
    assert ctl("apply", "-f", str(tmp_path / "m")).lines == ["config/a created", "config/b created"]
    assert ctl("apply", "-f", str(tmp_path / "m"), "-R").lines == [
        "config/a unchanged", "config/b unchanged", "config/c created",
    ]  # fmt: skip


def test_stdin(ctl: Ctl) -> None:
    assert ctl.program("apply", "-f", "-", stdin=text(config("a"))).out == "config/a created\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """An https server: its address, the directory it serves, and the authority to trust."""
    root = tmp_path / "site"
    root.mkdir()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "site-ca.pem")
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}", root, tmp_path / "site-ca.pem"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_https_url_is_fetched(ctl: Ctl, site: tuple[str, Path, Path]) -> None:
    url, root, authority = site
    (root / "a.yaml").write_text(text(config("a")))
    trusting = {"SSL_CERT_FILE": str(authority)}
    done = ctl.program("apply", "-f", f"{url}/a.yaml", environment=trusting)
    assert done.out == "config/a created\n"
    (root / "a.yaml").write_text("apiVersion: skep.dev/v1\nkind: Config\nmetadata: {nam: a}\n")
    wrong = ctl.program("apply", "-f", f"{url}/a.yaml", code=4, environment=trusting)
    assert f"{url}/a.yaml:3:12: metadata.nam: unknown field; did you mean name?" in wrong.err


def test_a_url_that_gives_nothing_is_an_error_in_words(
    ctl: Ctl, site: tuple[str, Path, Path]
) -> None:
    url, _, authority = site
    trusting = {"SSL_CERT_FILE": str(authority)}
    gone = ctl.program("apply", "-f", f"{url}/b.yaml", code=1, environment=trusting)
    assert (
        gone.err == f"error: {url}/b.yaml can't be read: its server answered 404 File not found\n"
    )
    untrusted = ctl.program("apply", "-f", f"{url}/b.yaml", code=1)
    assert "certificate" in untrusted.err
    plain = ctl("apply", "-f", "http://localhost/x.yaml", code=2)
    assert "only https URLs are" in plain.err


def test_a_dry_run_writes_nothing(ctl: Ctl) -> None:
    done = ctl("apply", "-f", "-", "--dry-run", stdin=text(config("a")))
    assert done.out == "config/a created (dry run)\n"
    assert names(ctl) == []


def test_prune_deletes_what_left_its_set_and_nothing_else(ctl: Ctl) -> None:
    prune = ("apply", "-f", "-", "--prune", "--applyset", ctl.namespace)
    ctl("apply", "-f", "-", stdin=text(config("other")))
    ctl(*prune, stdin=text(config("a"), config("b")))
    trial = ctl(*prune, "--dry-run", stdin=text(config("a")))
    assert trial.lines == ["config/a unchanged (dry run)", "config/b pruned (dry run)"]
    assert ctl(*prune, stdin=text(config("a"))).lines == ["config/a unchanged", "config/b pruned"]
    assert names(ctl) == ["config/a", "config/other"]


@pytest.mark.parametrize("stdin", ["", "---\n", "# nothing\n", "kind: List\nitems: []\n"])
def test_pruning_by_an_empty_set_is_refused(ctl: Ctl, stdin: str) -> None:
    prune = ("apply", "-f", "-", "--prune", "--applyset", ctl.namespace)
    ctl(*prune, stdin=text(config("a")))
    done = ctl(*prune, stdin=stdin, code=2)
    assert "an empty set would delete everything" in done.err
    assert names(ctl) == ["config/a"]


def test_prune_and_its_set_go_together(ctl: Ctl) -> None:
    assert "go together" in ctl("apply", "-f", "-", "--prune", code=2).err
    assert "go together" in ctl("apply", "-f", "-", "--applyset", "x", code=2).err


def test_nothing_to_apply_says_so(ctl: Ctl) -> None:
    done = ctl("apply", "-f", "-", stdin="# nothing\n")
    assert (done.out, done.err) == ("", "there are no documents; nothing was written\n")
    assert "name what to read" in ctl("apply", code=2).err


def test_wait_ends_when_the_tasks_run(ctl: Ctl) -> None:
    done = ctl("apply", "-f", "-", "--wait", "--timeout", "20s", stdin=text(service("web")))
    assert done.out == "service/web created\n"
    assert ctl("get", "service", "web", "-o", "jsonpath={.status.running}").out == "1"


def test_wait_gives_up_in_words(ctl: Ctl) -> None:
    wish = service("web")
    wish["spec"]["placement"] = {"constraints": ["node.labels.disk == ssd"]}
    done = ctl("apply", "-f", "-", "--wait", "--timeout", "1s", stdin=text(wish), code=124)
    assert "not in effect within 1 s" in done.err
    assert "no suitable node" in done.err


def test_objects_go_where_the_manifest_or_the_option_says(ctl: Ctl) -> None:
    elsewhere = f"{ctl.namespace}-b"
    space = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": elsewhere}}
    there = config("there")
    there["metadata"]["namespace"] = elsewhere
    ctl("apply", "-f", "-", stdin=text(there, config("here"), space))
    assert names(ctl) == ["config/here"]
    ctl("apply", "-f", "-", "-n", elsewhere, stdin=text(config("option")))
    assert ctl("get", "configs", "-n", elsewhere, "-o", "name").lines == [
        "config/option", "config/there",
    ]  # fmt: skip
    ctl("delete", "namespace", elsewhere, "--no-wait")
