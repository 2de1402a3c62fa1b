"""What containers see as /etc/resolv.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.types.template import Dns
from controllers.agent.drivers.contract import DriverError
from controllers.agent.drivers.engine import resolvers
from controllers.agent.drivers.engine.resolvers import Resolvers, node, render

NODE = """\
# made by a program
nameserver 192.0.2.1
nameserver 192.0.2.2
search example.org corp.example.org
options timeout:1
"""


def test_the_node_s_own_without_its_comments() -> None:
    assert render(NODE, Dns()) == NODE.partition("\n")[2]


@pytest.mark.parametrize(
    "server", ["127.0.0.53", "127.0.1.1", "::1", "2001:db8::1", "fe80::1%eth0"]
)
def test_servers_that_no_container_reaches_are_left_out(server: str) -> None:
    text = render(f"nameserver {server}\n{NODE}", Dns())
    assert text == render(NODE, Dns())


def test_a_node_without_servers_gets_the_engine_s_choice() -> None:
    assert render("", Dns()) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_what_the_service_says_stands_in_place_of_the_node_s() -> None:
    assert render(NODE, Dns(servers=["192.0.2.53"])) == (
        "nameserver 192.0.2.53\nsearch example.org corp.example.org\noptions timeout:1\n"
    )
    assert "search ." not in render(NODE, Dns(search=["."])), "a dot: none"
    assert "search" not in render(NODE, Dns(search=["."]))
    assert render(NODE, Dns(search=["a.example"], options=["ndots:2"])) == (
        "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example\noptions ndots:2\n"
    )


def test_what_the_engine_s_configuration_says_comes_between() -> None:
    engine = Dns(servers=["192.0.2.8"], options=["edns0"])
    assert render(NODE, Dns(servers=["192.0.2.53"]), engine) == (
        "nameserver 192.0.2.53\nsearch example.org corp.example.org\noptions edns0\n"
    )
    assert render(NODE, Dns(), engine).startswith("nameserver 192.0.2.8\n")


def test_domain_is_the_old_word_for_search() -> None:
    assert "search old.example\n" in render("domain old.example\n", Dns())


def test_behind_systemd_s_stub_stand_the_real_ones(tmp_path: Path) -> None:
    host, behind = tmp_path / "resolv.conf", tmp_path / "behind"
    host.write_text("nameserver 127.0.0.53\n")
    assert node(host, behind) == host.read_text(), "nothing behind it"
    behind.write_text(NODE)
    assert node(host, behind) == NODE
    host.write_text("nameserver 192.0.2.9\n")
    assert node(host, behind) == host.read_text()
    host.unlink()
    assert node(host, tmp_path / "none") == ""


def test_one_file_for_all_and_rewritten_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = NODE
    monkeypatch.setattr(resolvers, "node", lambda: text)
    files = Resolvers(tmp_path / "resolv")
    first, second = files.put("1", Dns()), files.put("2", Dns())
    assert first == second
    inode = first.stat().st_ino
    text = "nameserver 192.0.2.7\n"
    files.put("3", Dns())
    assert (first.read_text(), first.stat().st_ino) == (text, inode)
    first.unlink()
    files.put("4", Dns())
    assert first.read_text() == text, "made again"


def test_a_container_s_own_goes_with_it(tmp_path: Path) -> None:
    files = Resolvers(tmp_path / "resolv")
    shared, own = files.put("1", Dns()), files.put("2", Dns(servers=["192.0.2.53"]))
    assert own != shared
    files.forget("1")
    files.forget("2")
    files.forget("never there")
    assert shared.exists()
    assert not own.exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DriverError, match=r"name servers can't be written to .*run directory"):
        Resolvers(tmp_path / "taken").put("1", Dns())
