"""The file that a namespace's containers see as /etc/hosts."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from controllers.agent.drivers.contract import DriverError
from controllers.agent.drivers.engine.names import Entry, Names

HEAD = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(tmp_path / "hosts")


def entry(number: int, address: str = "", *, namespace: str = "shop", hostname: str = "") -> Entry:
    name = f"web.{number}.abc"
    return Entry(namespace, "web", name, hostname or name, address)


def lines(names: Names, namespace: str = "shop") -> list[str]:
    found = names.path(namespace).read_text().splitlines()
    assert found[:2] == HEAD
    return found[2:]


def up(names: Names, uid: str, entry: Entry) -> None:
    """It runs, and gets traffic."""
    names.put(uid, entry)
    names.serve(uid, True)


def test_who_runs_is_known_by_service_task_and_hostname(names: Names) -> None:
    names.put("1", entry(1))
    assert lines(names) == [], "it is there before its first container starts"
    up(names, "1", entry(1, "172.17.0.2"))
    up(names, "2", entry(2, "172.17.0.3", hostname="db"))
    assert lines(names) == [
        "172.17.0.2\tweb.1.abc web web.shop",
        "172.17.0.3\tdb web.2.abc web web.shop",
    ]


def test_who_gets_no_traffic_is_known_by_its_own_names(names: Names) -> None:
    """Programs look up their own hostname when they start."""
    names.put("1", entry(1, "172.17.0.2"))
    names.put("2", entry(2, "172.17.0.3", hostname="web"))
    assert lines(names) == ["172.17.0.2\tweb.1.abc", "172.17.0.3\tweb.2.abc"]
    names.serve("1", True)
    assert lines(names)[0] == "172.17.0.2\tweb.1.abc web web.shop"
    names.serve("1", False)
    assert lines(names)[0] == "172.17.0.2\tweb.1.abc"


def test_the_next_agent_leaves_traffic_as_it_was(names: Names, tmp_path: Path) -> None:
    up(names, "1", entry(1, "172.17.0.2"))
    names.put("2", entry(2, "172.17.0.3"))
    up(names, "3", entry(3, "172.17.0.4"))
    before = lines(names)
    after = Names(tmp_path / "hosts")
    for number in (1, 2, 3):
        after.put(str(number), entry(number, f"172.17.0.{number + 1}"))
    assert lines(after) == before


def test_an_address_that_another_had_leads_nowhere_new(names: Names, tmp_path: Path) -> None:
    up(names, "1", entry(1, "172.17.0.2"))
    after = Names(tmp_path / "hosts")
    after.put("2", entry(2, "172.17.0.2"))
    assert lines(after) == ["172.17.0.2\tweb.2.abc"]


def test_who_has_ended_is_not_found(names: Names) -> None:
    up(names, "1", entry(1, "172.17.0.2"))
    up(names, "2", entry(2, "172.17.0.3"))
    names.stopped("1")
    assert lines(names) == ["172.17.0.3\tweb.2.abc web web.shop"]
    up(names, "1", entry(1, "172.17.0.9"))
    assert len(lines(names)) == 2
    names.forget("2")
    assert lines(names) == ["172.17.0.9\tweb.1.abc web web.shop"]


def test_namespaces_know_only_their_own(names: Names) -> None:
    up(names, "1", entry(1, "172.17.0.2"))
    up(names, "2", entry(2, "172.17.0.3", namespace="bank"))
    assert lines(names, "bank") == ["172.17.0.3\tweb.2.abc web web.bank"]
    assert lines(names) == ["172.17.0.2\tweb.1.abc web web.shop"]


def test_containers_keep_seeing_the_same_file(names: Names) -> None:
    """A bind mount holds on to the inode."""
    names.put("1", entry(1))
    before = names.path("shop").stat().st_ino
    up(names, "1", entry(1, "172.17.0.2"))
    up(names, "2", entry(2, "172.17.0.3"))
    names.stopped("1")
    assert names.path("shop").stat().st_ino == before


def test_it_goes_with_the_last_of_its_namespace(names: Names) -> None:
    names.put("1", entry(1))
    names.put("2", entry(2))
    names.forget("1")
    assert names.path("shop").exists()
    names.forget("2")
    assert not names.path("shop").exists()
    names.forget("2")


def test_nothing_is_written_where_nothing_changes(names: Names) -> None:
    """A node of a thousand containers would write a thousand lines for each start."""
    up(names, "1", entry(1, "172.17.0.2"))
    os.utime(names.path("shop"), ns=(0, 0))
    up(names, "1", entry(1, "172.17.0.2"))
    names.put("2", entry(2))
    names.put("2", entry(2))
    names.stopped("2")
    names.forget("2")
    assert names.path("shop").stat().st_mtime_ns == 0
    assert len(lines(names)) == 1


def test_one_that_somebody_removed_is_written_again(names: Names) -> None:
    up(names, "1", entry(1, "172.17.0.2"))
    names.path("shop").unlink()
    names.put("2", entry(2))
    assert lines(names) == ["172.17.0.2\tweb.1.abc web web.shop"]


def test_what_can_t_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    names = Names(tmp_path / "file" / "hosts")
    with pytest.raises(DriverError, match=r"file/hosts/shop: Not a directory.*run directory"):
        names.put("1", entry(1))
    (tmp_path / "file").unlink()
    up(names, "1", entry(1, "172.17.0.2"))
    assert len(lines(names)) == 1


def test_names_of_its_own_are_in_a_file_of_its_own(names: Names) -> None:
    own = msgspec.structs.replace(entry(1, "172.17.0.2"), extra=(("db", "192.0.2.7"),))
    up(names, "1", own)
    up(names, "2", entry(2, "172.17.0.3"))
    path = names.path("shop", "1")
    shared = ["172.17.0.2\tweb.1.abc web web.shop", "172.17.0.3\tweb.2.abc web web.shop"]
    assert lines(names) == shared
    assert path.read_text().splitlines() == [*HEAD, "192.0.2.7\tdb", *shared]
    assert names.path("shop", "2") == names.path("shop")
    inode = path.stat().st_ino
    names.forget("2")
    assert path.read_text().splitlines() == [*HEAD, "192.0.2.7\tdb", *shared[:1]]
    assert path.stat().st_ino == inode, "the container holds on to it"
    names.forget("1")
    assert not path.exists()
