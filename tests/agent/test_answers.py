"""What is read from an engine's answers."""

from __future__ import annotations

from controllers.agent.drivers.engine import answers


def test_an_engine_that_has_just_made_its_bridge_names_no_gateway() -> None:
    subnet = "172.17.0.0/16"
    assert answers.gateways([{"Subnet": subnet, "Gateway": "172.17.0.9"}]) == ["172.17.0.9"]
    assert answers.gateways([{"Subnet": subnet}]) == ["172.17.0.1"]
    assert answers.gateways([]) == []
