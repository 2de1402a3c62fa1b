"""kubectl's dialect, with the inputs of its own documentation."""

from __future__ import annotations

import pytest

from api.ctl.errors import Usage
from api.ctl.jsonpath import path, template

DOCUMENT = {
    "kind": "List",
    "items": [
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
            "status": {
                "capacity": {"cpu": "4"},
                "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}],
                "running": 3,
                "ready": True,
            },
        },
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.2"},
            "status": {
                "capacity": {"cpu": "8"},
                "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"},
                    {"type": "another", "address": "127.0.0.3"},
                ],
                "running": 0,
            },
        },
    ],
    "users": [
        {"name": "myself", "user": {}},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}},
    ],
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("kind is {.kind}", "kind is List"),
        ("{.kind}", "List"),
        (".kind", "List"),
        ("{$.kind}", "List"),
        ("{['kind']}", "List"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.users[0].name}", "myself"),
        ("{.users[-1].name}", "e2e"),
        ("{.users[-3].name}", ""),
        ("{.users[0:1].name}", "myself"),
        ("{.users[1:].name}", "e2e"),
        ("{.users[::2].name}", "myself"),
        ('{.users[?(@.name=="e2e")].user.password}', "secret"),
        ("{.users[?(@.name != 'e2e')].name}", "myself"),
        ("{.items[?(@.status.running>0)].metadata.name}", "127.0.0.1"),
        ("{.items[?(@.status.running<=0)].metadata.name}", "127.0.0.2"),
        ("{.items[?(@.status.ready==true)].metadata.name}", "127.0.0.1"),
        ("{.items[?(@.status.ready)].metadata.name}", "127.0.0.1"),
        ("{.items[?(@.metadata.name>5)].metadata.name}", ""),
        (
            "{range .items[*]}[{.metadata.name}, {.status.capacity.cpu}] {end}",
            "[127.0.0.1, 4] [127.0.0.2, 8] ",
        ),
        (
            '{range .items[*]}{.metadata.name}{"\\t"}{.status.running}{"\\n"}{end}',
            "127.0.0.1\t3\n127.0.0.2\t0\n",
        ),
        (
            "{range .items[*]}{range .status.addresses[*]}{.address},{end};{end}",
            "127.0.0.1,;127.0.0.2,127.0.0.3,;",
        ),
        ("{range .items[*]}{$.kind} {end}", "List List "),
        ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
        ("{.items[0].metadata.labels['kubernetes.io/hostname']}", "127.0.0.1"),
        ("{.items[0].status.capacity}", '{"cpu":"4"}'),
        ("{.items[0].status.ready}", "true"),
        ("{.items[0]['kind','nothing','status'].capacity.cpu}", "4"),
        ("{.users[*].user.*}", "admin secret"),
        ("{.nothing.at.all}", ""),
        ("{.kind.name}", ""),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_templates(text: str, result: str) -> None:
    assert template(text).render(DOCUMENT) == result


@pytest.mark.parametrize(
    "text",
    [
        "{.items[*}",
        "{.items",
        "{range .items[*]}{.a}",
        "{end}",
        "{.items[?(@.a==)]}",
        "{.items[?(@.a]}",
        "{..}",
        "{=}",
        "{.a['b}",
    ],
)
def test_what_is_no_template_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Usage) as refusal:
        template(text)
    assert "not valid at character" in str(refusal.value)


@pytest.mark.parametrize("text", ["{.kind}", ".kind", "kind", "$.kind", " {.kind} "])
def test_a_path_alone_needs_no_braces(text: str) -> None:
    assert path(text).find(DOCUMENT) == ["List"]


def test_a_path_may_be_the_object_itself() -> None:
    assert path(".").find(3) == [3]
    assert template("{@}").render(3) == "3"
    assert template("{$}").render([1]) == "[1]"
