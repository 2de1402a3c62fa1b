"""What clients are told of the API: discovery in both forms, OpenAPI, and tables."""

from __future__ import annotations

from typing import Any

import pytest

from api.server import openapi
from api.server.tables import PLAIN, Form, form
from api.types.kinds import KINDS
from tests.server.harness import Running, service, task
from tests.server.raw import request

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def told(server: Running, path: str, accept: str = "application/json") -> Any:
    answer = await request(server, "GET", "/" + path, headers={"Accept": accept})
    assert answer.code == 200, answer.body
    return await answer.json()


async def test_both_forms_of_discovery_say_the_same(server: Running) -> None:
    whole = await told(server, "/apis", f"{AGGREGATED},application/json")
    groups = {item["metadata"]["name"]: item["versions"][0] for item in whole["items"]}
    plain = await told(server, "/apis")
    assert {group["name"] for group in plain["groups"]} == set(groups)
    for name, version in groups.items():
        listed = await told(server, f"/apis/{name}/{version['version']}")
        verbs = {each["name"]: each["verbs"] for each in listed["resources"]}
        for resource in version["resources"]:
            assert verbs.pop(resource["resource"]) == resource["verbs"]
            for sub in resource.get("subresources", []):
                assert verbs.pop(f"{resource['resource']}/{sub['subresource']}") == sub["verbs"]
        assert verbs == {}


async def test_the_core_group_shadows_none_of_our_kinds(server: Running) -> None:
    whole = await told(server, "/api", f"{AGGREGATED},application/json")
    core = {
        each["resource"] for item in whole["items"] for each in item["versions"][0]["resources"]
    }
    assert core <= {"pods", "events"}


async def test_a_group_that_is_not_there(server: Running) -> None:
    for path in ("//apis/apps", "//apis/apps/v1", "//api/v2", "//openapi/v3/apis/apps/v1"):
        answer = await request(server, "GET", path)
        assert answer.code == 404
        assert (await answer.json())["reason"] == "NotFound"


async def test_openapi_names_every_kind_and_what_kubectl_looks_for(server: Running) -> None:
    index = await told(server, "/openapi/v3")
    url = index["paths"]["apis/skep.dev/v1"]["serverRelativeURL"]
    document = await told(server, url)
    found = set()
    for path in document["paths"].values():
        patch = path.get("patch")
        if patch:
            found.add(patch["x-kubernetes-group-version-kind"]["kind"])
            queries = {each["name"] for each in patch["parameters"]}
            assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= queries
    assert found == {kind.name for kind in KINDS if kind.declared}


def test_every_reference_in_the_openapi_document_leads_somewhere() -> None:
    document = openapi.document()
    schemas = document["components"]["schemas"]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].rpartition("/")[2] in schemas
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


async def test_a_list_as_a_table(server: Running) -> None:
    await request(server, "POST", "/namespaces/default/services", json=service())
    path = "/apis/skep.dev/v1/services"
    table = await told(server, path, TABLE)
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names[:3] == ["Name", "Mode", "Replicas"]
    wide = {c["name"] for c in table["columnDefinitions"] if c["priority"] == 1}
    assert wide == {"Revision", "Condition"}
    (row,) = table["rows"]
    assert row["cells"][0] == "web"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["namespace"] == "default"
    assert "spec" not in row["object"]
    whole = await told(server, path + "?includeObject=Object", TABLE)
    assert whole["rows"][0]["object"]["spec"]["template"]["image"] == "demo/web:1"
    bare = await told(server, path + "?includeObject=None", TABLE)
    assert "object" not in bare["rows"][0]


async def test_only_metadata(server: Running) -> None:
    await server.put(task("web-1", node="a"))
    listed = await told(server, "/apis/skep.dev/v1/tasks", PARTIAL)
    assert listed["kind"] == "PartialObjectMetadataList"
    (item,) = listed["items"]
    assert set(item) == {"kind", "apiVersion", "metadata"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("application/json", PLAIN),
        (TABLE, Form("Table")),
        ("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", PLAIN),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", PLAIN),
        ("application/json; as=Table; v=v1; g=meta.k8s.io", Form("Table")),
        ("application/yaml;as=Table;v=v1;g=meta.k8s.io", PLAIN),
        (PARTIAL, Form("Partial")),
    ],
)
def test_the_form_is_in_the_accept_header(accept: str, expected: Form) -> None:
    assert form(accept) == expected
