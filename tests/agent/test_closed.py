"""What of the node no container is shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from api.types.template import Mount, TaskTemplate
from controllers.agent.closed import Closed
from controllers.agent.files import Trouble
from controllers.agent.memory import mount, unmount


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "skep"
    (path / "node" / "secrets").mkdir(parents=True)
    return path


@pytest.fixture
def closed(run: Path, tmp_path: Path) -> Closed:
    (tmp_path / "var" / "agent").mkdir(parents=True)
    return Closed([run, tmp_path / "var", tmp_path / "var" / "agent", tmp_path / "absent"])


def bind(source: Path | str, target: str = "/host") -> Mount:
    return Mount(type="bind", source=str(source), target=target)


def kept(closed: Closed, *mounts: Mount) -> list[Mount]:
    return closed.keep_from(TaskTemplate(image="i", mounts=list(mounts))).mounts


@pytest.mark.parametrize("inside", ["", "node", "node/secrets", "node/absent", "../skep/node"])
def test_what_is_inside_is_refused(closed: Closed, run: Path, inside: str) -> None:
    with pytest.raises(Trouble, match="is skep's own, and is not shown to containers; mount ano"):
        kept(closed, bind(run / inside))


def test_no_link_leads_inside(closed: Closed, run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run / "node")
    (tmp_path / "run" / "skep" / "node" / "file").write_text("x")
    (tmp_path / "other").symlink_to("link/file")
    for source in ("link", "link/secrets", "other"):
        with pytest.raises(Trouble, match="is skep's own"):
            kept(closed, bind(tmp_path / source))
    with pytest.raises(Trouble, match="is skep's own"):
        kept(closed, bind(f"/proc/self/root{run}"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_the_memory_of_secrets_under_another_name_is_refused(
    closed: Closed, run: Path, tmp_path: Path
) -> None:
    alias = tmp_path / "alias"
    alias.mkdir()
    mount(run / "node" / "secrets")
    try:
        subprocess.run(["mount", "--bind", run / "node" / "secrets", alias], check=True)
        try:
            with pytest.raises(Trouble, match="is skep's own"):
                kept(closed, bind(alias))
        finally:
            subprocess.run(["umount", alias], check=True)
    finally:
        unmount(run / "node" / "secrets")


def test_what_is_above_is_shown_without_it(closed: Closed, run: Path, tmp_path: Path) -> None:
    wanted = bind(tmp_path)
    given, *covers = kept(closed, wanted)
    assert given is wanted
    assert {cover.target for cover in covers} == {"/host/run/skep", "/host/var"}
    assert all(cover.type == "tmpfs" and cover.read_only for cover in covers)
    (_, cover) = kept(closed, bind(f"{tmp_path}/run/", "/a/"))
    assert cover.target == "/a/skep"


def test_the_nodes_root_is_shown_without_its_processes_and_engines(tmp_path: Path) -> None:
    socket = tmp_path / "engine.sock"
    socket.touch()
    closed = Closed([], [socket, tmp_path / "absent.sock"])
    _, processes, engine = kept(closed, bind("/"))
    assert (processes.type, processes.target) == ("tmpfs", "/host/proc")
    assert (engine.type, engine.source, engine.read_only) == ("bind", "/dev/null", True)
    assert engine.target == f"/host{socket.resolve()}"
    # By themselves they are what somebody asked for.
    for alone in ("/proc", socket):
        assert kept(closed, bind(alone)) == [bind(alone)]


def test_others_are_left_alone(closed: Closed, tmp_path: Path) -> None:
    mounts = [
        bind(tmp_path / "run" / "skeptic"),
        bind("/var/run/docker.sock", "/s"),
        bind("/absent", "/b"),
        Mount(type="volume", source="run", target="/v"),
        Mount(type="tmpfs", target="/t"),
    ]
    assert kept(closed, *mounts) == mounts


def test_a_mount_of_the_users_own_there_covers_it_too(closed: Closed, tmp_path: Path) -> None:
    own = [bind(tmp_path), *(bind("/srv", f"/host/{place}") for place in ("run/skep", "var"))]
    assert kept(closed, *own) == own
