"""Everything here runs in virtual time: hours pass in milliseconds."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/controllers/" in str(item.path) and item.get_closest_marker("looptime") is None:
            item.add_marker(pytest.mark.looptime)
