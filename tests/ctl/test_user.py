"""`ctl user`: a second person at the same cluster."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


def as_user(ctl: Ctl, file: Path) -> Ctl:
    return replace(ctl, environment={**ctl.environment, "SKEP_CONFIG": str(file)})


def test_a_user_works_with_the_file_made_for_them_and_no_further(ctl: Ctl, tmp_path: Path) -> None:
    name, file = f"robin-{ctl.namespace}", tmp_path / "robin.yaml"
    done = ctl(
        "user", "create", name, "--role", "operator", "-n", ctl.namespace, "--out", str(file)
    )
    assert f"user/{name} created" in done.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in done.out + done.err

    robin = as_user(ctl, file)
    robin("create", "config", "settings", "--from-literal", "a=b")
    assert "settings" in robin("get", "configs").out  # in their own namespace, without -n
    refused = robin("create", "secret", "s", "--from-literal", "a=b", code=None)
    assert refused.code != 0
    assert f"user {name} may not create secrets" in refused.err
    refused = robin("get", "services", "-A", code=None)
    assert "use -n" in refused.err
    assert name in ctl("get", "users").out

    robin("context", "renew")
    robin("get", "configs")

    ctl("delete", "user", name)
    gone = robin("get", "configs", code=None)
    assert "does not exist any more" in gone.err
    assert "Traceback" not in gone.err


def test_a_lost_file_is_replaced_and_withdrawn(ctl: Ctl, tmp_path: Path) -> None:
    name, lost, found = f"vic-{ctl.namespace}", tmp_path / "lost.yaml", tmp_path / "found.yaml"
    ctl("user", "create", name, "--role", "viewer", "--out", str(lost))
    again = ctl("user", "create", name, "--role", "viewer", "--out", str(found), code=None)
    assert f"ctl user certificate {name}" in again.err
    assert not found.exists()
    taken = ctl("user", "certificate", name, "--out", str(lost), code=None)
    assert "is there already" in taken.err

    ctl("user", "certificate", name, "--out", str(found), "--withdraw")
    as_user(ctl, found)("get", "services")
    assert "was withdrawn" in as_user(ctl, lost)("get", "services", code=None).err
    ctl("delete", "user", name)
