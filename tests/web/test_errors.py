import pytest

from nautilus import errors
from nautilus.web.errors import TABLE, response


def tree(root: type[errors.NautilusError]) -> list[type[errors.NautilusError]]:
    """Return the errors that go over the wire: commands have some of their own."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(kind for child in children for kind in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.NautilusError))
def test_every_error_has_a_row_and_a_code(kind: type[errors.NautilusError]) -> None:
    assert kind in TABLE
    assert kind.code.isidentifier()


def test_every_code_is_its_own() -> None:
    codes = [kind.code for kind in tree(errors.NautilusError)]
    assert len(codes) == len(set(codes))


def test_refusals_for_now_say_when_to_retry() -> None:
    assert response(errors.OverloadedError(2.4)).headers["Retry-After"] == "3"
    assert response(errors.NotReadyError()).headers["Retry-After"] == "2"
    assert response(errors.StorageError("disk full")).headers["Retry-After"] == "10"


def test_faults_of_the_server_keep_their_details_to_themselves() -> None:
    answer = response(errors.EngineError("secret path"))
    assert answer.status_code == 500
    assert b"secret" not in answer.body
    assert b"error id" in answer.body
