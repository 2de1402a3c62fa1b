"""PATCH in all its types, PUT with a book of managers, scale, dry run and validation."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from tests.server.harness import Running, config, secret, service
from tests.server.raw import Answer, request

STEPS = "application/json-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
SERVICES = "/namespaces/default/services"
SECRETS = "/namespaces/default/secrets"


async def patch(
    server: Running, path: str, body: Any, content_type: str, query: str = ""
) -> Answer:
    return await request(
        server,
        "PATCH",
        path + query,
        data=msgspec.json.encode(body),
        headers={"Content-Type": content_type},
    )


async def create(server: Running, document: dict[str, Any]) -> dict[str, Any]:
    path = f"/namespaces/default/{document['kind'].lower()}s"
    answer = await request(server, "POST", path, json=document)
    assert answer.code == 201, answer.body
    made: dict[str, Any] = await answer.json()
    return made


async def test_steps(server: Running) -> None:
    await create(server, service(env={"A": "1"}))
    steps = [
        {"op": "test", "path": "/spec/template/env/A", "value": "1"},
        {"op": "copy", "from": "/spec/template/env/A", "path": "/spec/template/env/B"},
        {"op": "move", "from": "/spec/template/env/A", "path": "/spec/template/env/C"},
        {"op": "replace", "path": "/spec/replicas", "value": 4},
    ]
    answer = await patch(server, SERVICES + "/web", steps, STEPS)
    spec = (await answer.json())["spec"]
    assert (spec["replicas"], spec["template"]["env"]) == (4, {"B": "1", "C": "1"})


@pytest.mark.parametrize(
    ("steps", "code", "said"),
    [
        ({}, 400, "must be a list of steps"),
        ([1], 400, "must have op and path"),
        ([{"op": "jump", "path": "/a"}], 400, "op must be add"),
        ([{"op": "add", "path": "/spec/replicas"}], 400, "needs a value"),
        ([{"op": "copy", "path": "/spec/replicas"}], 400, "needs from"),
        ([{"op": "remove", "path": "/spec/nothing"}], 422, "step 0"),
        ([{"op": "add", "path": "/spec/replicas/x", "value": 1}], 422, "step 0"),
        ([{"op": "add", "path": "spec", "value": 1}], 422, "step 0"),
        ([{"op": "add", "path": "/spec/template/args/~2", "value": 1}], 422, "step 0"),
        ([{"op": "replace", "path": "", "value": 1}], 400, "one JSON object"),
        ([{"op": "test", "path": "/spec/replicas", "value": 7}], 422, "another one"),
        ([{"op": "replace", "path": "/spec/replicas", "value": "many"}], 422, "spec.replicas"),
        ([{"op": "replace", "path": "/metadata/name", "value": "x"}], 400, "metadata.name"),
        ([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}], 409, "version 1"),
        ([{"op": "remove", "path": "/x"}] * 10_001, 413, "at most 10000"),
    ],
)
async def test_steps_that_go_wrong(server: Running, steps: Any, code: int, said: str) -> None:
    made = await create(server, service())
    answer = await patch(server, SERVICES + "/web", steps, STEPS)
    assert answer.code == code
    assert said in (await answer.json())["message"]
    now = await (await request(server, "GET", SERVICES + "/web")).json()
    assert now == made


async def test_steps_that_double_an_object_end_at_its_limit(server: Running) -> None:
    await create(server, config())
    double = [{"op": "copy", "from": "", "path": f"/data/{n}"} for n in range(64)]
    answer = await patch(server, "/namespaces/default/configs/settings", double, STEPS)
    assert answer.code == 413


async def test_steps_change_a_secret(server: Running) -> None:
    await create(server, secret(a="1"))
    steps = [
        {"op": "add", "path": "/stringData", "value": {"b": "2"}},
        {"op": "remove", "path": "/data/a"},
    ]
    answer = await patch(server, SECRETS + "/password", steps, STEPS)
    status = (await answer.json())["status"]
    assert (status["version"], status["sizes"]) == (2, {"b": 1})


@pytest.mark.parametrize(
    "step",
    [
        {"op": "test", "path": "/data/value", "value": base64.b64encode(b"x").decode()},
        {"op": "copy", "from": "/data/value", "path": "/metadata/annotations/x"},
        {"op": "move", "from": "/data/value", "path": "/metadata/annotations/x"},
        {"op": "copy", "from": "", "path": "/metadata/annotations/x"},
        {"op": "test", "path": "", "value": {}},
        {"op": "test", "path": "/stringData/value", "value": "x"},
    ],
    ids=lambda step: f"{step['op']} {step.get('from', step['path'])}",
)
async def test_steps_tell_nothing_of_a_secret(server: Running, step: dict[str, Any]) -> None:
    await create(server, secret())
    touch = {"op": "add", "path": "/data/other", "value": ""}
    answer = await patch(server, SECRETS + "/password", [touch, step], STEPS)
    assert answer.code == 400
    assert "never shows" in (await answer.json())["message"]


async def test_a_strategic_patch_is_refused(server: Running) -> None:
    await create(server, service())
    content_type = "application/strategic-merge-patch+json"
    answer = await patch(server, SERVICES + "/web", {}, content_type)
    assert answer.code == 415
    assert MERGE in (await answer.json())["message"]


# Validation


def mistaken() -> dict[str, Any]:
    document = service()
    document["spec"]["replica"] = 3
    document["spec"]["template"]["imagee"] = "x"
    return document


@pytest.mark.parametrize("query", ["", "?fieldValidation=Strict"])
async def test_unknown_fields_are_a_mistake(server: Running, query: str) -> None:
    answer = await request(server, "POST", SERVICES + query, json=mistaken())
    assert answer.code == 422
    fields = {cause["field"] for cause in (await answer.json())["details"]["causes"]}
    assert fields == {"spec.replica", "spec.template.imagee"}


async def test_unknown_fields_are_left_out_with_a_warning(server: Running) -> None:
    answer = await request(server, "POST", SERVICES + "?fieldValidation=Warn", json=mistaken())
    assert answer.code == 201
    said = answer.headers.getall("Warning")
    assert {text.split(":")[0] for text in said} == {
        '299 - "spec.replica',
        '299 - "spec.template.imagee',
    }
    assert "replica" not in (await answer.json())["spec"].keys() - {"replicas"}


async def test_a_warning_is_one_line_whatever_a_field_is_called(server: Running) -> None:
    document = service()
    document["spec"]['a"\r\nSet-Cookie: b\x00ü\\'] = 3
    answer = await request(server, "POST", SERVICES + "?fieldValidation=Warn", json=document)
    assert answer.code == 201
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Warning"].isascii()


async def test_unknown_fields_are_left_out_in_silence(server: Running) -> None:
    path = SERVICES + "?fieldValidation=Ignore"
    answer = await request(server, "POST", path, json=mistaken())
    assert (answer.code, answer.headers.get("Warning")) == (201, None)


@pytest.mark.parametrize("validation", ["Warn", "Ignore"])
async def test_other_mistakes_stay_mistakes(server: Running, validation: str) -> None:
    document = mistaken()
    document["spec"]["replicas"] = -1
    path = f"{SERVICES}?fieldValidation={validation}"
    answer = await request(server, "POST", path, json=document)
    assert answer.code == 422


@pytest.mark.parametrize(
    "query",
    ["fieldValidation=Sometimes", "dryRun=Some", "fieldManager=" + "x" * 129, "fieldManager=%00"],
)
async def test_options_that_are_none(server: Running, query: str) -> None:
    answer = await request(server, "POST", f"{SERVICES}?{query}", json=service())
    assert answer.code == 400
    assert (await request(server, "GET", SERVICES + "/web")).code == 404


# Scale


async def test_scale_is_read_and_written(server: Running) -> None:
    await create(server, service())
    scale = await (await request(server, "GET", SERVICES + "/web/scale")).json()
    assert (scale["apiVersion"], scale["kind"], scale["spec"]) == (
        "autoscaling/v1",
        "Scale",
        {"replicas": 1},
    )
    scale["spec"]["replicas"] = 3
    answer = await request(server, "PUT", SERVICES + "/web/scale", json=scale)
    assert (await answer.json())["spec"] == {"replicas": 3}
    stale = await request(server, "PUT", SERVICES + "/web/scale", json=scale)
    assert stale.code == 409
    answer = await patch(server, SERVICES + "/web/scale", {"spec": {"replicas": 0}}, MERGE)
    assert (await answer.json())["spec"] == {"replicas": 0}
    now = await (await request(server, "GET", SERVICES + "/web")).json()
    assert now["spec"]["replicas"] == 0
    assert now["spec"]["template"]["image"] == "demo/web:1"


@pytest.mark.parametrize(
    ("spec", "code"), [({"replicas": -1}, 422), ({"replicas": "x"}, 422), ([], 400), (None, 200)]
)
async def test_scale_to_what_is_no_number(server: Running, spec: Any, code: int) -> None:
    await create(server, service())
    answer = await request(server, "PUT", SERVICES + "/web/scale", json={"spec": spec})
    assert answer.code == code


async def test_scale_of_a_global_service(server: Running) -> None:
    document = service()
    document["spec"]["mode"] = "global"
    await create(server, document)
    answer = await request(server, "GET", SERVICES + "/web/scale")
    assert answer.code == 400
    assert "is global" in (await answer.json())["message"]


# Who manages what


async def applied(server: Running, document: Any, manager: str, **query: str) -> Answer:
    words = "&".join(f"{key}={value}" for key, value in query.items())
    path = f"/namespaces/default/{document['kind'].lower()}s/{document['metadata']['name']}"
    return await patch(server, path, document, APPLY, f"?fieldManager={manager}&{words}")


async def test_apply_creates_then_changes(server: Running) -> None:
    answer = await applied(server, service(), "a")
    assert answer.code == 201
    answer = await applied(server, service(env={"A": "1"}), "a")
    made = await answer.json()
    assert answer.code == 200
    (entry,) = made["metadata"]["managedFields"]
    assert entry["manager"] == "a"
    assert entry["fieldsV1"] == {
        "f:spec": {"f:template": {"f:env": {"f:A": {}}, "f:image": {}}},
    }
    again = await (await applied(server, service(env={"A": "1"}), "a")).json()
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_conflict_names_who_and_what(server: Running) -> None:
    await applied(server, service(env={"A": "1", "B": "1"}), "a")
    answer = await applied(server, service(env={"A": "2", "B": "2"}), "b")
    said = await answer.json()
    assert (answer.code, said["reason"]) == (409, "Conflict")
    assert said["message"].startswith(
        'Apply failed with 2 conflicts: with "a": .spec.template.env.A, .spec.template.env.B.'
    )
    assert {cause["reason"] for cause in said["details"]["causes"]} == {"FieldManagerConflict"}
    forced = await applied(server, service(env={"A": "2", "B": "2"}), "b", force="true")
    assert (await forced.json())["spec"]["template"]["env"] == {"A": "2", "B": "2"}


async def test_lists_are_merged_by_their_keys(server: Running) -> None:
    await applied(server, service(mounts=[{"target": "/a", "source": "aa"}]), "a")
    other = service(mounts=[{"target": "/b", "source": "bb"}])
    del other["spec"]["template"]["image"]
    both = await (await applied(server, other, "b")).json()
    assert [mount["target"] for mount in both["spec"]["template"]["mounts"]] == ["/a", "/b"]
    other["spec"]["template"]["mounts"] = []
    left = await (await applied(server, other, "b")).json()
    assert [mount["target"] for mount in left["spec"]["template"]["mounts"]] == ["/a"]


async def test_a_secret_is_applied_by_its_keys(server: Running) -> None:
    await applied(server, secret(a="1", b="2"), "a")
    answer = await applied(server, secret(a="1"), "a")
    made = await answer.json()
    assert (made["status"]["version"], made["status"]["sizes"]) == (2, {"a": 1})
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
    other = await applied(server, secret(a="other"), "b")
    assert other.code == 409
    assert b"other" not in other.body.replace(b"others", b"")


async def test_apply_needs_a_name_and_no_book(server: Running) -> None:
    answer = await patch(server, SERVICES + "/web", service(), APPLY)
    assert answer.code == 400
    assert "fieldManager" in (await answer.json())["message"]
    document = service()
    document["metadata"]["managedFields"] = [{}]
    assert (await applied(server, document, "a")).code == 400


async def test_apply_of_what_must_exist(server: Running) -> None:
    document = service()
    document["metadata"]["resourceVersion"] = "3"
    assert (await applied(server, document, "a")).code == 409
    assert (await request(server, "GET", SERVICES + "/web")).code == 404


async def test_a_dry_run_of_apply_writes_nothing(server: Running) -> None:
    answer = await applied(server, service(), "a", dryRun="All")
    assert answer.code == 201
    assert (await request(server, "GET", SERVICES + "/web")).code == 404


async def test_who_writes_otherwise_takes_over(server: Running) -> None:
    await applied(server, service(env={"A": "1"}), "a")
    change = {"spec": {"template": {"env": {"A": "2"}}}}
    answer = await patch(server, SERVICES + "/web", change, MERGE, "?fieldManager=hand")
    book = (await answer.json())["metadata"]["managedFields"]
    owners = {entry["manager"]: entry["fieldsV1"] for entry in book}
    assert owners["hand"] == {"f:spec": {"f:template": {"f:env": {"f:A": {}}}}}
    assert "f:env" not in owners["a"]["f:spec"]["f:template"]


async def test_a_book_may_be_written_and_ended(server: Running) -> None:
    made = await create(server, service())
    made["metadata"]["managedFields"][0]["manager"] = "other"
    answer = await request(server, "PUT", SERVICES + "/web", json=made)
    assert (await answer.json())["metadata"]["managedFields"][0]["manager"] == "other"
    end: Any = {"metadata": {"managedFields": [{}]}}
    ended = await (await patch(server, SERVICES + "/web", end, MERGE)).json()
    assert "managedFields" not in ended["metadata"]


@pytest.mark.parametrize(
    "book",
    [
        [{"manager": "x"}],
        [1],
        "x",
        [{"manager": "x", "operation": "Guess"}],
        [{"manager": "x", "operation": "Apply", "fieldsV1": {"f:a": 1}}],
        [{"manager": "x", "operation": "Apply", "fieldsV1": {"k:{": {}}}],
    ],
)
async def test_a_book_that_cannot_be_read(server: Running, book: Any) -> None:
    made = await create(server, service())
    made["metadata"]["managedFields"] = book
    answer = await request(server, "PUT", SERVICES + "/web", json=made)
    assert answer.code == 400
    assert "managedFields" in (await answer.json())["message"]


async def test_sets_keep_no_book_but_heed_one(server: Running) -> None:
    """`ctl apply` of thousands stays small; what somebody else keeps is kept up to date."""
    body = {"items": [service(), config()]}
    await request(server, "POST", "/apply", json=body)
    item = await (await request(server, "GET", SERVICES + "/web")).json()
    assert "managedFields" not in item["metadata"]
    taken = await applied(server, service(env={"A": "1"}), "a")
    assert taken.code == 200
    body = {"items": [service(env={"A": "2"})]}
    assert (await request(server, "POST", "/apply", json=body)).code == 200
    now = await (await request(server, "GET", SERVICES + "/web")).json()
    owners = {entry["manager"] for entry in now["metadata"]["managedFields"]}
    assert {"a", "ctl"} <= owners
    answer = await applied(server, service(env={"A": "3"}), "a")
    assert 'with "ctl": .spec.template.env.A' in (await answer.json())["message"]
