import pytest

from nautilus.hubs.source import Source, parse

NGC = "nvidia/nemo/stt_en_conformer_ctc_small"


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("nvidia/parakeet-tdt-0.6b-v3", Source("huggingface", "nvidia/parakeet-tdt-0.6b-v3")),
        ("owner/model@v1.0", Source("huggingface", "owner/model", "v1.0")),
        ("owner/model@refs/pr/7", Source("huggingface", "owner/model", "refs/pr/7")),
        (f"ngc:{NGC}:1.6.0", Source("ngc", NGC, "1.6.0")),
        ("ngc:org/model:1", Source("ngc", "org/model", "1")),
        (f"ngc:{NGC}:1.6.0?file=other.nemo", Source("ngc", NGC, "1.6.0", "other.nemo")),
    ],
)
def test_a_name_says_hub_repository_and_revision(name: str, means: Source) -> None:
    assert parse(name) == means
    assert str(means) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "model", "a/b/c", "/a/b", "~/a", "./a", "owner/", "owner/model/", "owner/model@", "owner/../model"),
        *("owner/model@a/../../b", "owner/mo del", "owner/model?x", "ngc:", "ngc:org/team/model", "ngc:model:1"),
        *("ngc:a/b/c/d:1", "ngc:org/model:1?file=../x.nemo", "ngc:org/model:1?file=a/b.nemo", "https://a/b"),
    ],
)
def test_anything_else_is_no_name(name: str) -> None:
    assert parse(name) is None
