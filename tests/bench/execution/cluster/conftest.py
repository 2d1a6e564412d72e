import pytest


@pytest.fixture(scope="module")
def executor():
    """Connected with a cluster of one machine that has two CPUs, whatever this one has."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from bench.execution.cluster import connected

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            with connected(print) as found:
                yield found
        finally:
            cluster.shutdown()
