"""`ctl edit`, with editors that are small scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl, Done

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def edit(ctl: Ctl, what: str, script: str, code: int = 0) -> Done:
    """`ctl edit` with a shell script as the editor; `$1` is the file, `$n` how often it ran."""
    editor = ctl.directory / "editor"
    editor.write_text(
        f"#!/bin/sh\nset -e\ncd {ctl.directory}\necho x >>runs\nn=$(wc -l <runs)\n"
        f'cp "$1" "seen-$n"\n{script}\n'
    )
    editor.chmod(0o700)
    return ctl.program("edit", what, code=code, environment={"EDITOR": str(editor)})


def seen(ctl: Ctl, number: int) -> str:
    return (ctl.directory / f"seen-{number}").read_text()


def replicas(ctl: Ctl) -> str:
    return ctl("get", "service", "web", "-o", "jsonpath={.spec.replicas}").out


@pytest.fixture
def web(ctl: Ctl) -> Ctl:
    ctl("apply", "-f", "-", stdin=text(service("web", replicas=0)))
    return ctl


def test_a_change_is_written(web: Ctl) -> None:
    done = edit(web, "service/web", "sed -i 's/replicas: 0/replicas: 2/' \"$1\"")
    assert done.out == "service/web edited\n"
    assert replicas(web) == "2"
    shown = seen(web, 1)
    assert "kind: Service" in shown
    assert "resourceVersion" not in shown
    assert "status:" not in shown


def test_no_change_writes_nothing(web: Ctl) -> None:
    assert edit(web, "service/web", "true").out == "service/web unchanged\n"
    assert edit(web, "service/web", ': >"$1"').out == "service/web unchanged\n"
    assert edit(web, "service/web", "echo '# note' >>\"$1\"").out == "service/web unchanged\n"


def test_what_is_invalid_opens_again_with_the_reasons(web: Ctl) -> None:
    script = """
    case $n in
      1) sed -i 's/replicas: 0/replica: 2/' "$1" ;;
      2) sed -i 's/replica: 2/replicas: [/' "$1" ;;
      3) sed -i 's/replicas: \\[/replicas: 2/' "$1" ;;
    esac"""
    done = edit(web, "service/web", script)
    assert done.out == "service/web edited\n"
    assert replicas(web) == "2"
    assert "# It was refused:" in seen(web, 2)
    assert "spec.replica: unknown field; did you mean replicas?" in seen(web, 2)
    assert "  replica: 2" in seen(web, 2)
    assert "did you mean" not in seen(web, 3)
    assert seen(web, 3).count("# It was refused:") == 1


def test_what_stays_invalid_is_given_up_and_kept(web: Ctl) -> None:
    done = edit(web, "service/web", "sed -i 's/replicas: 0/replica: 2/' \"$1\"", code=4)
    assert "did you mean replicas?" in done.err
    kept = Path(done.err.split("kept in ")[1].split()[0].rstrip(";"))
    try:
        assert "replica: 2" in kept.read_text()
    finally:
        kept.unlink()
    assert replicas(web) == "0"


def test_what_the_server_refuses_opens_again_too(web: Ctl) -> None:
    script = """
    case $n in
      1) sed -i 's/mode: replicated/mode: global/; /replicas: 0/d' "$1" ;;
      2) sed -i 's/mode: global/mode: replicated/' "$1" ;;
    esac"""
    edit(web, "service/web", script)
    assert "mode" in seen(web, 2).partition("apiVersion")[0]


def test_another_change_meanwhile_is_a_conflict_and_loses_nothing(web: Ctl) -> None:
    script = f"""
    sed -i 's/replicas: 0/replicas: 2/' "$1"
    SKEP_CONFIG={web.environment["SKEP_CONFIG"]} {web.bin} scale web=1 >&2"""
    done = edit(web, "service/web", script, code=5)
    assert "read it again and repeat the change" in done.err
    assert replicas(web) == "1"
    kept = Path(done.err.split("kept in ")[1].split()[0].rstrip(";"))
    assert "replicas: 2" in kept.read_text()
    kept.unlink()


def test_an_editor_that_fails_changes_nothing(web: Ctl) -> None:
    done = edit(web, "service/web", "sed -i 's/replicas: 0/replicas: 2/' \"$1\"; exit 3", code=1)
    assert "ended with 3; nothing changed" in done.err
    assert replicas(web) == "0"
    done = web.program("edit", "service/web", code=1, environment={"EDITOR": "/no/editor -x"})
    assert "set EDITOR" in done.err


def test_another_name_is_not_this_object(web: Ctl) -> None:
    script = '[ $n -gt 1 ] || sed -i \'s/name: web/name: other/\' "$1"; [ $n = 1 ] || : >"$1"'
    done = edit(web, "service/web", script)
    assert done.out == "service/web unchanged\n"
    assert "name" in seen(web, 2).partition("apiVersion")[0]


def test_what_cannot_be_edited(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    assert "does not exist" in ctl("edit", "config/none", code=3).err
    assert "one object at a time" in ctl("edit", "config/a", "config/b", code=2).err
    assert "--replace" in ctl("edit", "secret/s", code=2).err
