"""Which version of a secret a task gets, and when a new one rolls: on a virtual clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from api import schema
from api.types.job import JobStatus, Run
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec, revision_name
from api.types.secret import SecretStatus, SecretVersion
from api.types.service import UNDONE_SECRETS, UNDONE_TO, Service, ServiceSpec
from api.types.template import OnChange, SecretMount, TaskTemplate
from controllers.orchestrator.secrets import lost, wanted

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def status(version: int, *, kept: int = 5, first: int = 0) -> SecretStatus:
    oldest = max(version - kept, 0) + 1
    versions = [SecretVersion(version=each, created=NOW) for each in range(oldest, version + 1)]
    return SecretStatus(version=version, sizes={"a": 1}, versions=versions, first=first)


def template(
    *names: str, image: str = "web:1", on_change: str | OnChange = "restart"
) -> TaskTemplate:
    mounts = [SecretMount(name=name, on_change=on_change) for name in names]
    return TaskTemplate(image=image, secrets=mounts)


class Book:
    """A service, its revisions and its secrets, as the controller would keep them."""

    def __init__(self, wanted: TaskTemplate, mode: str = "replicated") -> None:
        self.service = Service(
            metadata=Metadata(name="web", namespace="default", uid="u"),
            spec=ServiceSpec(template=wanted, mode=mode),
        )
        self.revisions: dict[str, Revision] = {}
        self.secrets: dict[str, SecretStatus] = {}

    def look(self) -> str:
        """The wanted revision, which is there from now on."""
        found = wanted(self.service, list(self.revisions.values()), self.secrets.get)
        spec = RevisionSpec(
            service="web", number=len(self.revisions) + 1, template=self.service.spec.template,
            secrets=dict(found.secrets),
        )  # fmt: skip
        metadata = Metadata(name=found.name, namespace="default", uid=found.name)
        self.revisions.setdefault(found.name, Revision(metadata=metadata, spec=spec))
        self.service.status.revision = found.name
        return found.name

    def given(self, name: str, secret: str = "db") -> int:
        return self.revisions[name].spec.version_of(secret, self.secrets[secret].oldest)

    def undo(self, to: str) -> None:
        self.service.spec.template = self.revisions[to].spec.template
        versions = {name: each.version for name, each in self.secrets.items()}
        said = msgspec.json.encode(versions).decode()
        self.service.metadata.annotations = {UNDONE_TO: to, UNDONE_SECRETS: said}


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_version_more_is_a_revision_more_and_nothing_else_is(changes: list[bool]) -> None:
    book = Book(template("db"))
    book.secrets["db"] = status(1)
    name, version = book.look(), 1
    for change in changes:
        version += change
        book.secrets["db"] = status(version, kept=version)
        before, name = name, book.look()
        assert (name != before) == change
        assert book.given(name) == version
    assert len(book.revisions) == version
    assert [book.given(each) for each in book.revisions] == list(range(1, version + 1))


def test_a_secret_that_comes_late_makes_no_other_revision() -> None:
    book = Book(template("db"))
    before = book.look()
    book.secrets["db"] = status(1)
    assert book.look() == before
    assert before == revision_name("web", template("db"))  # as every skep called it


def test_a_template_has_the_revision_that_earlier_skeps_gave_it() -> None:
    """Or every service would be replaced by an upgrade. A block that is added to the template later
    is None by default: a struct by default is part of what names the revision."""
    stored = {
        "image": "skep/busybox:test", "command": ["sh"], "stopGracePeriod": "2s",
        "secrets": [{"name": "db", "uid": 0, "gid": 0, "mode": "0444"}],
        "imagePull": "ifNotPresent", "init": False, "readOnly": False, "privileged": False,
        "shmSize": 0, "stopDelay": "0s", "forceUpdate": 0,
    }  # fmt: skip
    assert named(stored) == "web-56a1713917"
    service = {"apiVersion": "skep.dev/v1", "kind": "Service", "metadata": {"name": "web"}}
    again = schema.default({**service, "spec": {"template": stored}})
    assert named(again["spec"]["template"]) == "web-56a1713917", "applied again with new defaults"


def named(document: dict[str, Any]) -> str:
    return revision_name("web", msgspec.json.decode(json.dumps(document), type=TaskTemplate))


def test_what_an_earlier_skep_stored_goes_on_as_it_is() -> None:
    book = Book(template("db"))
    book.secrets["db"] = SecretStatus(version=4, sizes={"a": 1})
    old = book.look()
    assert old == revision_name("web", template("db"))
    book.secrets["db"] = status(5, kept=2, first=4)
    new = book.look()
    assert new != old
    assert (book.given(old), book.given(new)) == (4, 5)


def test_deleting_a_secret_rolls_nothing() -> None:
    book = Book(template("db"))
    book.secrets["db"] = status(3)
    before = book.look()
    gone = book.secrets.pop("db")
    assert book.look() == before
    book.secrets["db"] = gone
    assert book.look() == before


def test_what_follows_its_secret_is_of_one_revision() -> None:
    for then in ("none", OnChange(signal="SIGHUP")):
        book = Book(template("db", on_change=then))
        book.secrets["db"] = status(1)
        before = book.look()
        book.secrets["db"] = status(2)
        assert book.look() == before


def test_an_undone_service_keeps_its_versions_until_there_is_a_newer_one() -> None:
    book = Book(template("db"))
    book.secrets["db"] = status(1)
    first = book.look()
    book.secrets["db"] = status(2)
    second = book.look()
    book.undo(first)
    assert book.look() == first
    assert book.given(first) == 1
    book.service.spec.template = template("db", image="web:2")  # another manifest
    other = book.look()
    assert book.given(other) == 2
    book.undo(first)
    book.secrets["db"] = status(3)
    assert book.given(book.look()) == 3
    assert second in book.revisions


def test_a_revision_whose_versions_are_gone_is_lost() -> None:
    book = Book(template("db"))
    for version in range(1, 8):
        book.secrets["db"] = status(version)
        book.look()
    gone = lost(list(book.revisions.values()), book.secrets.get)
    assert sorted(book.given(name) for name in gone) == [1, 2]
    first = next(iter(book.revisions))
    book.undo(first)
    assert book.given(book.look()) == 7  # there is no way back
    del book.secrets["db"]
    assert lost(list(book.revisions.values()), book.secrets.get) == set()


def test_a_job_that_has_run_does_not_run_again_for_a_secret() -> None:
    book = Book(template("db"), mode="replicated-job")
    book.secrets["db"] = status(1)
    before = book.look()
    book.service.status.job = JobStatus(runs=[Run(number=1, revision=before)], last_run=1)
    book.secrets["db"] = status(2)
    assert book.look() == before
    again = msgspec.structs.replace(book.service.spec.template, force_update=1)  # `ctl job run`
    book.service.spec.template = again
    assert book.given(book.look()) == 2
