"""A restart of a service whose status is written all the time."""

from __future__ import annotations

from typing import Any, cast

import pytest

from api.client import Client, Listing
from api.ctl.restart import force
from api.rest import ApiError


class Busy:
    """The API of one service, whose status changes after each of the first `reads` reads."""

    def __init__(self, reads: int) -> None:
        self.reads = reads
        self.version = 1
        self.forced = 0
        self.kept: list[int] = []  # restarts of the revisions that are kept

    async def get(self, _kind: object, namespace: str, name: str) -> dict[str, Any]:
        read = {
            "metadata": {
                "namespace": namespace, "name": name, "resourceVersion": str(self.version),
            },
            "spec": {"template": {"forceUpdate": self.forced}},
        }  # fmt: skip
        if self.reads:
            self.reads -= 1
            self.version += 1
        return read

    async def list(self, _kind: object, _space: str, *, field_selector: str) -> Listing:
        assert field_selector == "spec.service=web"
        kept = [{"spec": {"template": {"forceUpdate": count}}} for count in self.kept]
        return Listing(kept, "1")

    async def patch(self, _kind: object, _space: str, _name: str, patch: dict[str, Any]) -> None:
        if patch["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError({"reason": "Conflict", "message": "it changed", "code": 409})
        self.version += 1
        self.forced = patch["spec"]["template"]["forceUpdate"]


async def restart(api: Busy) -> None:
    client = cast(Client, api)
    await force(client, await api.get(None, "default", "web"))


async def test_it_is_one_restart_however_often_the_status_was_written_meanwhile() -> None:
    api = Busy(reads=5)
    await restart(api)
    assert api.forced == 1


async def test_two_at_once_are_two() -> None:
    api = Busy(reads=0)
    read = await api.get(None, "default", "web")
    await force(cast(Client, api), read)
    await force(cast(Client, api), read)
    assert api.forced == 2


async def test_it_leads_to_no_revision_that_is_kept() -> None:
    """As after `ctl rollout undo`: that revision's image is what it was then."""
    api = Busy(reads=0)
    api.kept = [0, 1, 2]
    await restart(api)
    assert api.forced == 3


async def test_what_never_rests_is_a_conflict_in_the_end() -> None:
    with pytest.raises(ApiError, match="it changed"):
        await restart(Busy(reads=1000))
