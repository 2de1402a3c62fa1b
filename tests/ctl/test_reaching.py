"""How `ctl` reaches managers: several, strange ones, none; the same whether it reads or writes."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.context import load
from tests.ctl.objects import config, text
from tests.ctl.runner import Ctl
from tests.ctl.test_context import admin_file

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]

READ, WRITE = ["get", "configs", "-o", "name"], ["create", "config", "b", "--from-literal", "k=v"]
VERBS = pytest.mark.parametrize("words", [READ, WRITE], ids=["read", "write"])


@pytest.fixture
def server(ctl: Ctl) -> str:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    return load(Path(ctl.environment["SKEP_CONFIG"])).select().server


@VERBS
def test_the_next_manager_is_asked_where_one_is_gone(
    ctl: Ctl, server: str, words: list[str]
) -> None:
    both = f"https://127.0.0.1:1,{server}"
    assert ctl(*words, "--server", both).out in ("config/a\n", "config/b created\n")


def test_nobody_there(ctl: Ctl) -> None:
    done = ctl.program(*WRITE, "--server", "https://127.0.0.1:1", code=6)
    assert "https://127.0.0.1:1 refused the connection: no manager runs there" in done.err
    done = ctl.program(*READ, "--server", "https://manager.invalid:7443", code=6)
    assert "https://manager.invalid:7443 can't be reached" in done.err


@VERBS
def test_another_clusters_manager_is_not_trusted(ctl: Ctl, server: str, words: list[str]) -> None:
    stranger = {"SKEP_CONFIG": str(admin_file(ctl.directory / "x", server))}
    done = replace(ctl, environment={**ctl.environment, **stranger}).program(*words, code=6)
    assert "its certificate is of another authority" in done.err
    assert "import its admin.yaml" in done.err


@pytest.fixture
def odd() -> Iterator[str]:
    """Something that listens and speaks no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.settimeout(2)
                    peer.recv(10)
                    peer.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@VERBS
def test_what_speaks_no_tls(ctl: Ctl, server: str, odd: str, words: list[str]) -> None:
    assert "it does not speak TLS" in ctl.program(*words, "--server", odd, code=6).err


def test_a_long_list_comes_in_pages(ctl: Ctl) -> None:
    names = [f"c{number:04}" for number in range(1100)]
    ctl("apply", "-f", "-", stdin=text(*(config(name) for name in names)))
    assert ctl(*READ).lines == [f"config/{name}" for name in names]


def test_reading_loads_no_more_than_it_needs(ctl: Ctl) -> None:
    """Each of these takes as long to load as the whole answer takes."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ctl.bin), "get", "nodes,services"],
        env=dict(ctl.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "api.ctl.blocking" in loaded
    assert not loaded & {"aiohttp", "asyncio", "cryptography", "jsonschema", "rich", "difflib"}
