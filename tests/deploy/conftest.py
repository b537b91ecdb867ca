import pytest

from tests.deploy.wheels import Built, build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What `make build` makes."""
    return build(tmp_path_factory.mktemp("dist"))
