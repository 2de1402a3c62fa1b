"""Pages are tried on a real cluster: that of tests/cluster."""

from tests.cluster.conftest import busybox, cluster, pytest_runtest_makereport

__all__ = ["busybox", "cluster", "pytest_runtest_makereport"]
