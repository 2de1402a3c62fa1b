"""What the Engine's answers say of published ports."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.agent.drivers.engine import answers

V4, V6 = {"HostIp": "0.0.0.0"}, {"HostIp": "::"}  # all interfaces


def inspected(ports: dict[str, Any]) -> dict[str, Any]:
    labels = ("task", "task-name", "namespace", "service")
    return {
        "Id": "c1",
        "State": {
            "Status": "running", "Pid": 1, "ExitCode": 0, "OOMKilled": False, "Error": "",
            "StartedAt": "2026-01-31T12:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "Config": {"Image": "app:1", "Labels": {f"dev.skep.{name}": name for name in labels}},
        "NetworkSettings": {"Ports": ports},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bindings", "published"),
    [
        ([V4 | {"HostPort": "8080"}, V6 | {"HostPort": "8080"}], [8080]),
        # Chosen by the engine: for each family by itself.
        ([V6 | {"HostPort": "32804"}, V4 | {"HostPort": "32808"}], [32808]),
        ([V6 | {"HostPort": "32804"}], [32804]),
        ([V4 | {"HostPort": ""}], []),
        (None, []),
    ],
)
def test_a_port_that_the_engine_chose_is_the_one_that_answers_over_ipv4(
    bindings: list[dict[str, str]] | None, published: list[int]
) -> None:
    found = answers.container(inspected({"80/tcp": bindings})).ports
    assert [port.published for port in found] == published
