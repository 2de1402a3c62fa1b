"""Defaults: filled in everywhere they belong, nowhere else, into a copy."""

from __future__ import annotations

from typing import Any

from api.schema import default
from tests.schema.objects import minimal, service, templated


def test_a_partly_given_block_keeps_the_other_defaults() -> None:
    filled = default(service(update={"delay": "10s"}))
    assert filled["spec"]["update"] == {
        "delay": "10s",
        "parallelism": 1,
        "failureAction": "pause",
        "monitor": "5s",
        "maxFailureRatio": 0,
        "deadline": "0s",
        "order": "stop-first",
    }


def test_items_of_lists_get_theirs() -> None:
    filled = default(templated(ports=[{"target": 80}], secrets=[{"name": "a", "mode": "0400"}]))
    template = filled["spec"]["template"]
    assert template["ports"] == [{"target": 80, "published": 0, "protocol": "tcp", "mode": "host"}]
    wanted = {"name": "a", "mode": "0400", "uid": 0, "gid": 0}
    assert template["secrets"] == [wanted]


def test_a_field_that_does_not_go_with_its_sibling_gets_none() -> None:
    assert "replicas" not in default(service(mode="global"))["spec"]
    assert default(service())["spec"]["replicas"] == 1


def test_jobs_are_not_started_again_when_they_ended_well() -> None:
    def condition(**spec: Any) -> str:
        found: str = default(service(**spec))["spec"]["restart"]["condition"]
        return found

    assert condition() == condition(mode="global", restart={"delay": "1s"}) == "any"
    assert condition(mode="replicated-job") == "on-failure"
    assert condition(mode="global-job", restart={"delay": "1s"}) == "on-failure"
    assert condition(mode="replicated-job", restart={"condition": "none"}) == "none"
    given = default(service(mode="global-job", restart={"delay": "1s"}))["spec"]["restart"]
    assert (given["delay"], given["maxDelay"]) == ("1s", "5m")


def test_what_users_did_not_write_and_has_no_default_stays_out() -> None:
    filled = default(minimal("Service"))
    assert filled["metadata"] == {"name": "web"}
    assert "status" not in filled
    assert "healthcheck" not in filled["spec"]["template"]
    assert "labels" not in filled["spec"]["template"]


def test_the_original_is_not_changed_nor_shared_where_it_may_be() -> None:
    obj = templated(env={"A": "1"}, command=["a"], labels={})
    copy = default(obj)
    copy["spec"]["template"]["env"]["B"] = "2"
    copy["spec"]["template"]["command"].append("b")
    copy["spec"]["update"]["delay"] = "1h"
    assert obj == templated(env={"A": "1"}, command=["a"], labels={})
    assert default(obj)["spec"]["update"]["delay"] == "0s"


def test_users_order_of_fields_is_kept() -> None:
    obj = service(restart={}, mode="replicated")
    assert list(default(obj)["spec"])[:3] == ["template", "restart", "mode"]


def test_invalid_objects_pass_through() -> None:
    objects: list[dict[str, Any]] = [
        {},
        {"kind": []},
        {"kind": "Banana", "spec": 3},
        {"kind": "Service", "spec": 3},
    ]
    for obj in objects:
        assert default(obj) == obj
