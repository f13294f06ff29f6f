"""One OpenSearch for the run, or the reason why there is none."""

from collections.abc import Iterator

import pytest

from tests.servers.opensearch import NotHereError, OpenSearch


@pytest.fixture(scope="session")
def opensearch() -> Iterator[OpenSearch]:
    """A node with no index; whoever kills it starts it again."""
    try:
        node = OpenSearch()
    except NotHereError as error:
        pytest.skip(f"a real OpenSearch is left out: {error}")
    with node:
        yield node
