"""Objects created, read, changed and deleted over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import ApiError, Client
from api.types.kinds import CONFIG, EVENT, NAMESPACE, NODE, REVISION, SECRET, SERVICE, TASK, Kind
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec
from api.types.task import TaskState
from api.types.template import TaskTemplate
from tests.server.harness import Running, config, secret, service, task


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


def fields(error: ApiError) -> dict[str, str]:
    return {cause["field"]: cause["message"] for cause in error.causes}


async def test_what_is_written_can_be_read_at_once(admin: Client) -> None:
    created = await admin.create(service())
    assert await admin.get(SERVICE, "default", "web") == created


async def test_the_server_adds_identity_and_defaults(admin: Client) -> None:
    created = await admin.create(service())
    metadata = created["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["generation"] == 1
    assert metadata["finalizers"] == ["skep.dev/tasks"]
    assert created["spec"]["replicas"] == 1
    assert created["spec"]["restart"]["delay"] == "5s"


async def test_defaults_fill_blocks_that_are_partly_given(admin: Client) -> None:
    partly = service()
    partly["spec"]["update"] = {"parallelism": 3}
    created = await admin.create(partly)
    assert created["spec"]["update"]["parallelism"] == 3
    assert created["spec"]["update"]["monitor"] == "5s"


async def test_what_the_user_says_of_the_servers_fields_is_ignored(admin: Client) -> None:
    pretending = service()
    pretending["metadata"] |= {
        "uid": "mine",
        "generation": 7,
        "creationTimestamp": None,
        "managedFields": [],
    }
    pretending["status"] = {"running": 100}
    created = await admin.create(pretending)
    assert created["metadata"]["uid"] != "mine"
    assert created["metadata"]["generation"] == 1
    assert "status" not in created


async def test_a_second_object_of_a_name_is_refused(admin: Client) -> None:
    await admin.create(service())
    error = await refused(admin.create(service()))
    assert (error.code, error.reason) == (409, "AlreadyExists")
    assert "service default/web exists already" in error.message


async def test_an_invalid_object_is_refused_with_every_problem(admin: Client) -> None:
    wrong = service("Web_1")
    wrong["spec"] |= {"replica": 3, "replicas": -1}
    error = await refused(admin.create(wrong))
    assert (error.code, error.reason) == (422, "Invalid")
    said = fields(error)
    assert "did you mean replicas?" in said["spec.replica"]
    assert {"metadata.name", "spec.replicas"} <= said.keys()


async def test_a_missing_object_is_named(admin: Client) -> None:
    error = await refused(admin.get(SERVICE, "shop", "web"))
    assert (error.code, error.reason) == (404, "NotFound")
    assert error.message == "service shop/web does not exist"
    assert error.details["kind"] == "services"


async def test_a_namespace_must_exist(admin: Client) -> None:
    error = await refused(admin.create(service(namespace="shop")))
    assert error.code == 404
    assert "namespace shop does not exist; create it first" in error.message
    await admin.create({"kind": "Namespace", "metadata": {"name": "shop"}})
    await admin.create(service(namespace="shop"))


async def test_a_name_can_be_made_up(server: Running, admin: Client) -> None:
    import aiohttp

    nameless = service()
    nameless["metadata"] = {"generateName": "job-"}
    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/apis/skep.dev/v1/namespaces/default/services"
        async with session.post(url, json=nameless, ssl=server.tls()) as response:
            assert response.status == 201
            made = await response.json()
    assert made["metadata"]["name"].startswith("job-")
    assert len(made["metadata"]["name"]) == 9


# Changes


async def test_generation_counts_changes_of_the_spec_alone(admin: Client) -> None:
    await admin.create(service())
    labelled = await admin.patch(SERVICE, "default", "web", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = await admin.patch(SERVICE, "default", "web", {"spec": {"replicas": 3}})
    assert scaled["metadata"]["generation"] == 2


async def test_a_change_that_changes_nothing_writes_nothing(admin: Client) -> None:
    created = await admin.create(service())
    again = await admin.patch(SERVICE, "default", "web", {"spec": {"replicas": 1}})
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_a_patch_takes_fields_away_with_null(admin: Client) -> None:
    await admin.create(service(env={"A": "1", "B": "2"}))
    patch = {"spec": {"template": {"env": {"A": None, "C": "3"}}}}
    changed = await admin.patch(SERVICE, "default", "web", patch)
    assert changed["spec"]["template"]["env"] == {"B": "2", "C": "3"}


async def test_replacing_takes_what_is_said_and_nothing_else(admin: Client) -> None:
    created = await admin.create(service(env={"A": "1"}, user="nobody"))
    created["spec"]["template"] = {"image": "demo/web:2"}
    replaced = await admin.replace(created)
    assert "env" not in replaced["spec"]["template"]
    assert replaced["metadata"]["uid"] == created["metadata"]["uid"]


async def test_an_old_version_is_not_overwritten(admin: Client) -> None:
    mine = await admin.create(service())
    await admin.patch(SERVICE, "default", "web", {"spec": {"replicas": 2}})
    mine["spec"]["replicas"] = 5
    error = await refused(admin.replace(mine))
    assert (error.code, error.reason) == (409, "Conflict")
    assert "read it again and repeat the change" in error.message
    assert (await admin.get(SERVICE, "default", "web"))["spec"]["replicas"] == 2


async def test_a_patch_may_insist_on_a_version_too(admin: Client) -> None:
    await admin.create(service())
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}}
    assert (await refused(admin.patch(SERVICE, "default", "web", patch))).code == 409


async def test_many_who_do_not_insist_all_get_through(admin: Client) -> None:
    import asyncio

    await admin.create(service())
    patches = [{"metadata": {"labels": {f"l{n}": "x"}}} for n in range(8)]
    await asyncio.gather(*(admin.patch(SERVICE, "default", "web", patch) for patch in patches))
    labels = (await admin.get(SERVICE, "default", "web"))["metadata"]["labels"]
    assert len(labels) == 8


async def test_another_object_of_that_name_is_not_meant(admin: Client) -> None:
    created = await admin.create(config())
    await admin.delete(CONFIG, "default", "settings")
    await admin.create(config())
    created["metadata"].pop("resourceVersion")
    error = await refused(admin.replace(created))
    assert error.code == 409
    assert "another object has that name now" in error.message


async def test_names_do_not_change(admin: Client) -> None:
    await admin.create(service())
    patch = {"metadata": {"name": "other"}}
    error = await refused(admin.patch(SERVICE, "default", "web", patch))
    assert error.code == 400
    assert "metadata.name is 'other' in the body" in error.message


async def test_a_service_keeps_its_mode(admin: Client) -> None:
    await admin.create(service())
    patch = {"spec": {"mode": "global", "replicas": None}}
    error = await refused(admin.patch(SERVICE, "default", "web", patch))
    assert "delete the service and create it anew" in fields(error)["spec.mode"]


async def test_the_status_is_written_by_itself(admin: Client) -> None:
    await admin.create(service())
    patch = {"status": {"running": 1}, "spec": {"replicas": 9}}
    changed = await admin.patch(SERVICE, "default", "web", patch, status=True)
    assert changed["status"] == {"running": 1}
    assert changed["spec"]["replicas"] == 1
    assert changed["metadata"]["generation"] == 1
    # … and is left alone by all other writes.
    scaled = await admin.patch(SERVICE, "default", "web", {"status": {}, "spec": {"replicas": 2}})
    assert scaled["status"] == {"running": 1}


async def test_a_status_that_nobody_could_read_is_refused(admin: Client) -> None:
    await admin.create(service())
    patch = {"status": {"running": "many"}}
    error = await refused(admin.patch(SERVICE, "default", "web", patch, status=True))
    assert fields(error).keys() == {"status.running"}


async def test_a_reference_to_nothing_is_accepted_and_said(server: Running) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/apis/skep.dev/v1/namespaces/default/services"
        body = service(secrets=[{"name": "x"}], configs=[{"name": "y"}])
        async with session.post(url, json=body, ssl=server.tls()) as response:
            assert response.status == 201
            warnings = response.headers.getall("Warning")
    assert warnings == [
        '299 - "secret default/x does not exist yet; tasks will wait for it"',
        '299 - "config default/y does not exist yet; tasks will wait for it"',
    ]


# Dry run


async def test_a_dry_run_shows_and_does_not_write(admin: Client) -> None:
    shown = await admin.create(service(), dry_run=True)
    assert shown["spec"]["replicas"] == 1
    assert (await refused(admin.get(SERVICE, "default", "web"))).code == 404

    await admin.create(service())
    patch = {"spec": {"replicas": 4}}
    shown = await admin.patch(SERVICE, "default", "web", patch, dry_run=True)
    assert shown["spec"]["replicas"] == 4
    await admin.delete(SERVICE, "default", "web", dry_run=True)
    assert (await admin.get(SERVICE, "default", "web"))["spec"]["replicas"] == 1


async def test_a_dry_run_finds_what_is_wrong(admin: Client) -> None:
    wrong = service()
    wrong["spec"]["replicas"] = "three"
    assert (await refused(admin.create(wrong, dry_run=True))).code == 422


# Deleting


async def test_deleting_takes_an_object_away(admin: Client) -> None:
    created = await admin.create(config())
    answer = await admin.delete(CONFIG, "default", "settings")
    assert answer["status"] == "Success"
    assert answer["details"]["uid"] == created["metadata"]["uid"]
    assert (await refused(admin.get(CONFIG, "default", "settings"))).code == 404
    assert (await refused(admin.delete(CONFIG, "default", "settings"))).code == 404


async def test_an_object_with_finalizers_stays_until_they_are_done(admin: Client) -> None:
    await admin.create(service())
    going = await admin.delete(SERVICE, "default", "web")
    stamp = going["metadata"]["deletionTimestamp"]
    again = await admin.delete(SERVICE, "default", "web")
    assert again["metadata"]["deletionTimestamp"] == stamp
    await admin.patch(SERVICE, "default", "web", {"metadata": {"finalizers": None}})
    assert (await refused(admin.get(SERVICE, "default", "web"))).code == 404


async def test_a_manifest_without_finalizers_does_not_take_them_away(admin: Client) -> None:
    await admin.create(service())
    replaced = await admin.replace(service(user="nobody"))
    assert replaced["metadata"]["finalizers"] == ["skep.dev/tasks"]


async def test_only_the_object_that_was_meant_is_deleted(admin: Client) -> None:
    await admin.create(config())
    error = await refused(admin.delete(CONFIG, "default", "settings", uid="other"))
    assert error.code == 409
    await admin.get(CONFIG, "default", "settings")


async def test_nothing_new_goes_into_a_namespace_that_goes(admin: Client) -> None:
    await admin.create({"kind": "Namespace", "metadata": {"name": "shop"}})
    await admin.delete(NAMESPACE, "", "shop")
    error = await refused(admin.create(service(namespace="shop")))
    assert error.code == 403
    assert "is being deleted" in error.message


async def test_the_default_namespace_stays(admin: Client) -> None:
    assert (await refused(admin.delete(NAMESPACE, "", "default"))).code == 403


async def test_deleting_many_by_label(admin: Client) -> None:
    for name in ("a", "b", "c"):
        manifest = config(name)
        manifest["metadata"]["labels"] = {"keep": str(name == "c").lower()}
        await admin.create(manifest)
    gone = await admin.delete_collection(CONFIG, "default", label_selector="keep=false")
    assert [item["metadata"]["name"] for item in gone.items] == ["a", "b"]
    left = await admin.list(CONFIG, "default")
    assert [item["metadata"]["name"] for item in left.items] == ["c"]


async def test_deleting_what_is_used_is_said(server: Running, admin: Client) -> None:
    import aiohttp

    await admin.create(secret())
    await admin.create(service(secrets=[{"name": "password"}]))
    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/apis/skep.dev/v1/namespaces/default/secrets/password"
        async with session.delete(url, ssl=server.tls()) as response:
            assert response.status == 409
        force = {"gracePeriodSeconds": "0"}  # as `kubectl delete --force` does
        async with session.delete(url, params=force, ssl=server.tls()) as response:
            assert "still named by service web" in response.headers["Warning"]


# What the system writes


async def test_deleting_a_task_asks_for_its_removal(server: Running, admin: Client) -> None:
    await server.put(task("web-1-abcde", node="a", state=TaskState.RUNNING))
    going = await admin.delete(TASK, "default", "web-1-abcde")
    assert going["spec"]["desiredState"] == "Remove"
    assert (await admin.get(TASK, "default", "web-1-abcde"))["status"]["state"] == "Running"


@pytest.mark.parametrize("kind", [TASK, REVISION, EVENT])
async def test_system_kinds_are_not_for_clients_to_write(
    server: Running, admin: Client, kind: Kind
) -> None:
    document = {"kind": kind.name, "metadata": {"name": "x", "namespace": "default"}}
    assert (await refused(admin.create(document))).code == 405
    assert (await refused(admin.replace(document))).code == 405
    assert (await refused(admin.patch(kind, "default", "x", {}))).code == 405
    assert (await refused(admin.patch(kind, "default", "x", {}, status=True))).code == 405


async def test_a_revision_goes_with_its_service_only(server: Running, admin: Client) -> None:
    spec = RevisionSpec(service="web", number=1, template=TaskTemplate(image="demo/web:1"))
    metadata = Metadata(name="web-1", namespace="default", uid="r")
    await server.put(Revision(metadata=metadata, spec=spec))
    error = await refused(admin.delete(REVISION, "default", "web-1"))
    assert (error.code, error.reason) == (405, "MethodNotAllowed")


async def test_a_node_is_an_object_too(admin: Client) -> None:
    await admin.create({"kind": "Node", "metadata": {"name": "a", "labels": {"zone": "1"}}})
    changed = await admin.patch(NODE, "", "a", {"spec": {"availability": "drain"}})
    assert changed["spec"] == {"availability": "drain", "role": "worker"}
    assert (await admin.delete(NODE, "", "a"))["status"] == "Success"


async def test_a_secret_without_bytes_is_refused(admin: Client) -> None:
    empty = secret()
    del empty["stringData"]
    error = await refused(admin.create(empty))
    assert error.code == 422
    assert (await refused(admin.get(SECRET, "default", "password"))).code == 404
