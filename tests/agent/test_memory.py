"""The tmpfs that secrets are kept in."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.agent.memory import NotInMemory, is_tmpfs, mount, unmount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture(params=["secrets", "größe, and\ta tab"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    it = tmp_path / "node" / request.param
    yield it
    for path in (it, it.parent):
        for _ in mounts(path):
            subprocess.run(["umount", str(path)], check=True)


def mounts(place: Path) -> list[list[str]]:
    """Of each mount at the place: its options and its file system's type."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        at = before.split()[4].replace("\\040", " ").replace("\\011", "\t")
        if at == str(place):
            found.append([*before.split()[5].split(","), after.split()[0]])
    return found


def test_it_is_a_tmpfs_for_root_alone(place: Path) -> None:
    mount(place)
    assert is_tmpfs(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place.stat().st_uid == 0
    ((*options, kind),) = mounts(place)
    assert kind == "tmpfs"
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options)


def test_it_is_never_swapped_out_or_says_that_it_may_be(place: Path) -> None:
    """Where the kernel has noswap it is used; where it hasn't, and there is swap, that is said."""
    said = mount(place)
    line = next(
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4].replace("\\040", " ").replace("\\011", "\t") == str(place)
    )
    version = tuple(int(part) for part in platform.release().split(".")[:2])
    assert ("noswap" in line.rpartition(" - ")[2].split()[2].split(",")) == (version >= (6, 4))
    swaps = Path("/proc/swaps").read_text().splitlines()[1:]
    assert bool(said) == (bool(swaps) and version < (6, 4))


def test_one_that_somebody_mounted_without_it_is_kept_and_told_of(place: Path) -> None:
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    said = mount(place)
    assert len(mounts(place)) == 1
    swaps = Path("/proc/swaps").read_text().splitlines()[1:]
    assert ("mounted without noswap" in said) == bool(swaps)


def test_again_keeps_what_is_there(place: Path) -> None:
    mount(place)
    (place / "kept").write_text("still")
    mount(place)
    assert (place / "kept").read_text() == "still"
    assert len(mounts(place)) == 1


def test_a_tmpfs_around_it_does_not_count(place: Path) -> None:
    """/run is one on most machines; ours has its own size, options and mode."""
    mount(place.parent)
    mount(place)
    assert len(mounts(place)) == 1


def test_unmounted_it_is_gone(place: Path) -> None:
    unmount(place)
    mount(place)
    (place / "secret").write_text("s")
    unmount(place)
    assert not is_tmpfs(place)
    assert list(place.iterdir()) == []


def test_where_there_can_be_none_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotInMemory, match=r"file/secrets.*\(Not a directory\).*mount a tmpfs"):
        mount(tmp_path / "file" / "secrets")


def test_without_the_right_to_mount_it_says_what_to_do(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from controllers.agent.memory import mount\n"
        "mount(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "NotInMemory: secrets are kept in memory only" in done.stderr
    assert "CAP_SYS_ADMIN" in done.stderr
