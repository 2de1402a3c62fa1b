"""Secrets and configs as files: whole or not at all, where they belong, gone when they should."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import schema
from api.types.assignment import COMPLETE, INCREMENT, Assignments, Delivery
from api.types.template import ConfigMount, SecretMount, TaskTemplate
from controllers.agent.drivers.contract import BoundFile
from controllers.agent.files import Files, Scope, Trouble
from controllers.agent.materials import Materials
from controllers.agent.memory import is_tmpfs, unmount
from tests.schema.objects import templated

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="owners and mounts need root")
UID = "0" * 32
DEFAULT = Scope("default")


def delivery(name: str, **data: str) -> Delivery:
    return version(name, 1, **(data or {"value": f"of {name}"}))


def version(name: str, number: int, **data: str) -> Delivery:
    content = {key: value.encode() for key, value in data.items()}
    return Delivery(namespace="default", name=name, version=number, data=content)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    it = Files(tmp_path / "secrets", what="secret", inside="/run/secrets")
    it.replace([delivery("one"), delivery("two"), delivery("many", user="me", password="pw")])
    return it


def write(files: Files, *mounts: SecretMount) -> list[BoundFile]:
    return files.write(UID, DEFAULT, mounts)


def seen(bound: list[BoundFile]) -> dict[str, str]:
    """Path in the container → content."""
    found = {}
    for each in bound:
        source = Path(each.source)
        paths = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else []
        for path in paths:
            found[f"{each.target}/{path.relative_to(source)}"] = path.read_text()
        if source.is_file():
            found[each.target] = source.read_text()
    return found


def test_each_has_its_place(files: Files) -> None:
    bound = write(
        files,
        SecretMount(name="one"),
        SecretMount(name="two", target="deep/er/2"),
        SecretMount(name="one", target="/run/secrets/again"),
        SecretMount(name="two", target="/etc/app/key"),
        SecretMount(name="many"),
        SecretMount(name="many", key="user", target="who"),
        SecretMount(name="many", target="/etc/many"),
    )
    assert seen(bound) == {
        "/run/secrets/one": "of one",
        "/run/secrets/deep/er/2": "of two",
        "/run/secrets/again": "of one",
        "/etc/app/key": "of two",
        "/run/secrets/many/user": "me",
        "/run/secrets/many/password": "pw",
        "/run/secrets/who": "me",
        "/etc/many/user": "me",
        "/etc/many/password": "pw",
    }
    assert [each.target for each in bound] == ["/run/secrets", "/etc/app/key", "/etc/many"]


@root_only
@pytest.mark.parametrize("mode", ["0400", "0440", "0444", "0600", "0755"])
def test_owner_and_mode(files: Files, mode: str) -> None:
    mount = SecretMount(name="one", target="/etc/one", uid=1234, gid=4321, mode=mode)
    (bound,) = write(files, mount)
    found = Path(bound.source).stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)
    assert stat.S_IMODE(found.st_mode) == int(mode, 8)


@root_only
def test_a_directory_of_keys_can_be_read_by_their_owner(files: Files) -> None:
    (bound,) = write(files, SecretMount(name="many", uid=1234, mode="0400"))
    tree = Path(bound.source)
    assert stat.S_IMODE((tree / "many").stat().st_mode) == 0o755
    assert (tree / "many/user").stat().st_uid == 1234


@pytest.mark.parametrize(
    "target",
    ["..", "../one", "a/../../one", "/..", "/etc/../etc/one", "/", ".", "a/.", "a/", "/etc/", "\0"],
)
def test_targets_that_lead_astray_are_refused(files: Files, tmp_path: Path, target: str) -> None:
    with pytest.raises(Trouble, match="of secret one is not a path"):
        write(files, SecretMount(name="one", target=target))
    assert files.holders() == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a", "a", "two secrets would be at /run/secrets/a"),
        ("a", "/run/secrets/a", "two secrets would be at /run/secrets/a"),
        ("a/b", "a//b", "two secrets would be at /run/secrets/a/b"),
        ("/etc/a", "/etc//a", "two secrets would be at /etc/a"),
        ("a", "a/b", "secret two would be at /run/secrets/a/b, inside secret one"),
        ("a/b", "a", "secret one would be at /run/secrets/a/b, inside secret two"),
        ("/etc/a", "/etc/a/b", "secret two would be at /etc/a/b, inside secret one"),
        ("/etc/a/b", "/etc/a", "secret one would be at /etc/a/b, inside secret two"),
        ("a", "/run/secrets", "secret one would be at /run/secrets/a, inside secret two"),
        ("a", "/run", "secret one would be at /run/secrets/a, inside secret two"),
    ],
)
def test_two_at_one_place_are_refused(files: Files, first: str, second: str, words: str) -> None:
    with pytest.raises(Trouble) as trouble:
        write(files, SecretMount(name="one", target=first), SecretMount(name="two", target=second))
    assert words in str(trouble.value)
    assert files.holders() == []


def test_neighbours_are_no_trouble(files: Files) -> None:
    bound = write(
        files,
        SecretMount(name="one", target="a/b"),
        SecretMount(name="two", target="a/bc"),
        SecretMount(name="one", target="/run/secretsx"),
        SecretMount(name="two", target="/run/secret"),
    )
    assert set(seen(bound)) == {
        "/run/secrets/a/b",
        "/run/secrets/a/bc",
        "/run/secretsx",
        "/run/secret",
    }


@pytest.mark.parametrize("key", ["..", ".", "", "a/b", "/etc/passwd", "a\0"])
def test_keys_that_name_no_file_are_refused(files: Files, key: str) -> None:
    files.put(delivery("odd", **{key: "x", "fine": "y"}))
    with pytest.raises(Trouble, match="of secret odd can't name a file"):
        write(files, SecretMount(name="one"), SecretMount(name="odd"))
    assert files.holders() == [], "what was written before it is gone"


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    targets=st.lists(
        st.text(alphabet="ab./", min_size=0, max_size=8).map(
            lambda text: text.replace("a", "run").replace("b", "secrets")
        ),
        min_size=1,
        max_size=4,
    )
)
def test_nothing_is_ever_written_outside(files: Files, tmp_path: Path, targets: list[str]) -> None:
    mounts = [
        SecretMount(name=("one", "two")[number % 2], target=target)
        for number, target in enumerate(targets)
    ]
    try:
        bound = write(files, *mounts)
    except Trouble:
        assert files.holders() == []
    else:
        assert len(seen(bound)) == len(targets), "each is somewhere, none hides another"
        assert all(Path(each.source).is_relative_to(tmp_path / "secrets" / UID) for each in bound)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["secrets"])
    files.withdraw(UID)
    assert files.holders() == []


TARGETS = st.lists(
    st.sampled_from(
        ["/", "//", "..", ".", "run", "secrets", "proc", "sys", "etc/passwd", "a", " ", "\n", "\0",
         "\x1b", "\x7f", "~", "é", "..a", "hosts", "etc", "C:\\", "-"]
    ),
    max_size=6,
).map("".join)  # fmt: skip


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TARGETS)
def test_what_the_schema_lets_in_stays_inside(files: Files, target: str) -> None:
    """And what it doesn't is refused here too, wherever it came from: with words, by name."""
    refused = [
        problem
        for kind in ("secrets", "secretFiles")
        for problem in schema.validate(
            templated(**{kind: [{"name": "one", "content": "x", "target": target or "one"}]})
        )
        if problem.path[-1] == "target"
    ]
    try:
        path = files.path(target or "one", "one")
    except Trouble as trouble:
        assert refused, (target, str(trouble))
        assert "of secret one" in str(trouble)
        return
    assert path.is_absolute()
    assert not {"..", "."} & set(path.parts)
    assert path.parts[1:2] not in (("proc",), ("sys",), ())
    assert (path.parts[:3] == ("/", "run", "secrets")) or target.startswith("/")


def test_a_link_that_was_planted_is_not_followed(files: Files, tmp_path: Path) -> None:
    """Only root can, but then: nothing of others is overwritten or removed."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("precious")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / UID).symlink_to(theirs)
    bound = write(files, SecretMount(name="one"))
    assert seen(bound) == {"/run/secrets/one": "of one"}
    assert (theirs / "file").read_text() == "precious"
    assert [path.name for path in theirs.iterdir()] == ["file"]

    (Path(bound[0].source) / "link").symlink_to(theirs / "file")
    files.withdraw(UID)
    assert (theirs / "file").read_text() == "precious"
    assert files.holders() == []


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "a/b", ".hidden"])
def test_a_uid_that_is_none_is_refused(files: Files, uid: str) -> None:
    with pytest.raises(Trouble):
        files.write(uid, DEFAULT, [SecretMount(name="one")])


def test_written_anew_where_an_earlier_agent_was_cut_off(files: Files, tmp_path: Path) -> None:
    (tmp_path / "secrets" / UID / "tree").mkdir(parents=True)
    (tmp_path / "secrets" / UID / "tree" / ".one.new").write_text("hal")
    (tmp_path / "secrets" / UID / "tree" / "old").write_text("not wanted any more")
    assert seen(write(files, SecretMount(name="one"))) == {"/run/secrets/one": "of one"}
    assert seen(write(files, SecretMount(name="two"))) == {"/run/secrets/two": "of two"}


def test_what_is_missing_is_named(files: Files) -> None:
    def missing(name: str, key: str = "") -> str:
        mounts = [SecretMount(name="one"), SecretMount(name=name, key=key)]
        return files.missing(DEFAULT, mounts)

    assert missing(name="many", key="user") == ""
    assert missing(name="late") == "secret default/late, which does not exist"
    words = "key token of secret default/many, which has only: password, user"
    assert missing(name="many", key="token") == words
    files.drop("default/one@1")
    assert missing(name="two") == "secret default/one, which does not exist"


@root_only
def test_a_full_place_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The bytes of a secret that doesn't fit are not left on their own."""
    place = tmp_path / "secrets"
    place.mkdir()
    assert os.system(f"mount -t tmpfs -o size=64k tmpfs {place}") == 0
    try:
        files = Files(place, what="secret", inside="/run/secrets")
        files.replace([delivery("small"), delivery("big", value="x" * (1 << 20))])
        with pytest.raises(OSError, match="No space left"):
            write(files, SecretMount(name="small"), SecretMount(name="big"))
        assert files.holders() == []
        assert list(place.iterdir()) == []
        assert seen(write(files, SecretMount(name="small")))
    finally:
        assert os.system(f"umount {place}") == 0


def test_withdrawn_bytes_are_overwritten_first(files: Files) -> None:
    (bound,) = write(files, SecretMount(name="one"))
    with (Path(bound.source) / "one").open("rb") as held:  # as a process in the container may
        files.withdraw(UID)
        assert held.read() == bytes(len("of one"))
    assert files.holders() == []


# All that a node's tasks are given.


@pytest.fixture
def materials(tmp_path: Path) -> Materials:
    it = Materials(tmp_path / "node")
    message = Assignments(
        type=COMPLETE, secrets=[delivery("one")], configs=[delivery("one", value="a config")]
    )
    it.take(message, complete=True)
    return it


def template(*names: str, configs: tuple[str, ...] = ()) -> TaskTemplate:
    return TaskTemplate(
        image="i",
        secrets=[SecretMount(name=name) for name in names],
        configs=[ConfigMount(name=name) for name in configs],
    )


@root_only
def test_secrets_are_in_memory_and_closed_to_all_but_root(
    materials: Materials, tmp_path: Path
) -> None:
    (tmp_path / "node").mkdir(mode=0o755)  # others keep files there too
    try:
        bound = materials.write(UID, DEFAULT, template("one", configs=("one",)))
        assert seen(bound) == {"/run/secrets/one": "of one", "/run/configs/one": "a config"}
        assert is_tmpfs(tmp_path / "node/secrets")
        for path in ("node", "node/secrets"):
            assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700
        assert not is_tmpfs(tmp_path / "node/configs")
    finally:
        unmount(tmp_path / "node/secrets")


@root_only
def test_secrets_never_go_to_a_disk_though_somebody_unmounts(
    materials: Materials, tmp_path: Path
) -> None:
    place = tmp_path / "node/secrets"
    try:
        materials.write(UID, DEFAULT, template("one"))
        unmount(place)
        bound = materials.write("1" * 32, DEFAULT, template("one"))
        assert is_tmpfs(place)
        assert seen(bound) == {"/run/secrets/one": "of one"}
    finally:
        unmount(place)


@root_only
def test_each_task_has_its_own_and_loses_only_its_own(materials: Materials, tmp_path: Path) -> None:
    uids = ["1" * 32, "2" * 32, "3" * 32]
    try:
        bound = [materials.write(uid, DEFAULT, template("one", configs=("one",))) for uid in uids]
        materials.withdraw(uids[0])
        materials.withdraw(uids[0])
        assert seen(bound[0]) == {}
        assert len(seen(bound[1])) == 2
        materials.sweep({uids[2]})
        assert seen(bound[1]) == {}
        assert len(seen(bound[2])) == 2
        materials.sweep(set())
        assert list((tmp_path / "node/secrets").iterdir()) == []
        assert list((tmp_path / "node/configs").iterdir()) == []
    finally:
        unmount(tmp_path / "node/secrets")


@root_only
def test_trouble_with_a_config_takes_the_secrets_back(materials: Materials, tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node/configs").write_text("in the way")
    try:
        with pytest.raises(OSError, match="configs"):
            materials.write(UID, DEFAULT, template("one", configs=("one",)))
        assert list((tmp_path / "node/secrets").iterdir()) == []
    finally:
        unmount(tmp_path / "node/secrets")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../out", "target '../out' of config one is not a path"),
        ("/etc/app/settings", "/etc/app/settings, inside secret one at /etc/app"),
        ("/etc/app", "secret one and config one would be at /etc/app"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    materials: Materials, tmp_path: Path, target: str, words: str
) -> None:
    wrong = TaskTemplate(
        image="i",
        secrets=[SecretMount(name="one", target="/etc/app")],
        configs=[ConfigMount(name="one", target=target)],
    )
    with pytest.raises(Trouble, match=words):
        materials.write(UID, DEFAULT, wrong)
    assert list(tmp_path.iterdir()) == []


def test_without_secrets_nothing_is_touched(materials: Materials, tmp_path: Path) -> None:
    assert materials.write(UID, DEFAULT, template()) == []
    materials.withdraw(UID)
    materials.sweep(set())
    assert list(tmp_path.iterdir()) == []


def test_increments_bring_and_take_away(materials: Materials) -> None:
    assert materials.missing(DEFAULT, template("one", configs=("one",))) == ""
    assert materials.missing(Scope("other"), template("one"))
    more = Assignments(type=INCREMENT, secrets=[delivery("two")], removed_configs=["default/one@1"])
    materials.take(more, complete=False)
    assert materials.missing(DEFAULT, template("one", "two")) == ""
    assert "config default/one" in materials.missing(DEFAULT, template(configs=("one",)))
    swap = Assignments(
        type=INCREMENT, removed_secrets=["default/one@1"], secrets=[delivery("one", value="new")]
    )
    materials.take(swap, complete=False)
    assert materials.missing(DEFAULT, template("one")) == "", "taken away, then brought again"
    materials.take(Assignments(type=COMPLETE), complete=True)
    assert materials.missing(DEFAULT, template("two"))


def test_what_a_secret_without_values_waits_for_is_said(materials: Materials) -> None:
    def missing() -> str:
        return materials.missing(DEFAULT, template("late"))

    absent = "secret default/late, which does not exist"
    assert missing() == absent
    why = {"default/late": "not made yet: it waits"}
    materials.take(Assignments(type=INCREMENT, awaited=why), complete=False)
    materials.take(Assignments(type=INCREMENT), complete=False)
    assert missing() == "secret default/late, which is not made yet: it waits"
    materials.take(Assignments(type=INCREMENT, awaited={}), complete=False)
    assert missing() == absent
    materials.take(Assignments(type=INCREMENT, awaited=why), complete=False)
    materials.take(Assignments(type=COMPLETE), complete=True)
    assert missing() == absent
