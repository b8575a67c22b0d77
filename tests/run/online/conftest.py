"""Online runs are many: on the newest version, on the others in the soak."""

import pytest

from tests.conftest import NEWEST, Cluster, cluster_of


@pytest.fixture(params=NEWEST, ids=lambda major: f"pg{major}")
def cluster(request: pytest.FixtureRequest, clusters: dict[int, Cluster]) -> Cluster:
    """A server of each version that counts here."""
    return cluster_of(clusters, request.param)
