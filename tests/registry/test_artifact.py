"""Names, manifests and digests."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name, read_artifact
from lora_mnist_cli.registry.digests import content_digest, seal_of
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TRAINING_CODE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import ArtifactError, UsageError

Publish = Callable[..., Artifact]


@pytest.mark.parametrize("name", ["base-0-4", "lora-5,7-9-r8", "a", "0", "A.b_c", "x" * 100, "a..b", "a."])
def test_a_good_name_is_taken(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a/b", "../a", "/a", "a/", ".hidden", ".staging", "-x", "--force", "_a", ",a", "a\n", "a\nb",
        "\na", "a b", "a\\b", "a\0b", "x" * 101, "x" * 300, "ä", "٣", "a\u202eb", "~", "$HOME", "a;b", "*",
    ],
)  # fmt: skip
def test_a_bad_name_is_refused_on_one_line(name):
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert caught.value.value == name
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


SCORES = {
    "subsets": [{"digits": "0-4", "count": 10, "accuracy": 0.5, "loss": 1.25}],
    "per_digit": [{"digit": i, "count": 0, "accuracy": None, "loss": None} for i in range(10)],
}


_ADAPTER = AdapterConfig(digits=DigitSet(range(5, 10)), target_layers=("fc1",), lr=0.002).to_json()
_LISTED = {"ranks": [1], "seeds": [0]}
SETTINGS = {key: value for key, value in _ADAPTER.items() if f"{key}s" not in _LISTED} | _LISTED


@pytest.fixture
def artifact(publish: Publish, tmp_path: Path) -> Artifact:
    registry = Registry(tmp_path / "runs", note="a first try")
    base = publish(registry, "b", config={"seed": 1})
    parents = [Parent("base", "b", base.digest)]
    parents.append(Parent("member", "m", publish(registry, "m", kind="adapter", parents=parents).digest))
    files = {"weights": b"1234", "tensorboard/events": b"log"}
    return publish(registry, "some", kind="sweep", config={"lr": 0.002}, parents=parents, files=files)


def test_the_manifest_says_all_of_it(artifact):
    manifest = json.loads((artifact.path / MANIFEST).read_text())
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in (("w", b"1234"), ("t", b"log"))}
    parents = [read_artifact(artifact.path.parent / name) for name in ("b", "m")]
    fingerprint, created, digest, seal = (manifest.pop(key) for key in ("fingerprint", "created", "digest", "seal"))
    assert manifest == {
        "schema_version": 2,
        "name": "some",
        "kind": "sweep",
        "scores": {},
        "details": {"results": [{"artifact": "x", "rank": 1, "seed": 0, "trainable_parameters": 1, "subsets": []}]},
        "environment": {},
        "wall_seconds": 1.5,
        "note": "a first try",
        "files": {
            "tensorboard/events": {"bytes": 3, "sha256": f"sha256:{hashes['t']}"},
            "weights": {"bytes": 4, "sha256": f"sha256:{hashes['w']}"},
        },
        "config": SETTINGS,
        "dataset": {"name": "mnist", "digest": "sha256:" + 64 * "0"},
        "parents": [
            {"role": "base", "name": "b", "digest": parents[0].digest},
            {"role": "member", "name": "m", "digest": parents[1].digest},
        ],
        "training_code": TRAINING_CODE,
    }
    assert created[-6:] == "+00:00"
    assert all(len(d) == 71 and d.startswith("sha256:") for d in (fingerprint, digest, seal))


def test_read_gives_what_was_published(artifact):
    assert read_artifact(artifact.path) == artifact
    assert artifact.config == SETTINGS
    assert artifact.dataset == "mnist"
    assert artifact.parents[1] == Parent("member", "m", read_artifact(artifact.path.parent / "m").digest)
    assert artifact.note == "a first try"
    assert artifact.read("weights") == b"1234"


def test_a_renamed_folder_is_the_artifact_under_its_new_name(artifact):
    renamed = read_artifact(artifact.path.rename(artifact.path.parent / "other"))
    assert (renamed.name, renamed.digest) == ("other", artifact.digest)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, below in items for leaf in leaves(below, (*path, key))]
    return [path]


def test_an_edit_anywhere_breaks_the_seal(artifact):
    whole = json.loads((artifact.path / MANIFEST).read_text())
    places = leaves(whole)
    assert len(places) > 25
    for place in places:
        for edit in ("changed", "removed"):
            manifest = json.loads(json.dumps(whole))
            *above, last = place
            target = manifest
            for key in above:
                target = target[key]
            if edit == "removed":
                del target[last]
            elif isinstance(target[last], (int, float)):
                target[last] += 0.25
            else:
                target[last] = "other"
            (artifact.path / MANIFEST).write_text(json.dumps(manifest))
            with pytest.raises(ArtifactError, match="'some'"):
                read_artifact(artifact.path)
    (artifact.path / MANIFEST).write_text(json.dumps(whole | {"extra": 1}))
    with pytest.raises(ArtifactError, match="seal"):
        read_artifact(artifact.path)
    (artifact.path / MANIFEST).write_text(json.dumps(whole))
    assert read_artifact(artifact.path) == artifact


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["config"].update(lr=0.003),
        lambda manifest: manifest["parents"][0].update(digest=f"sha256:{64 * '1'}"),
        lambda manifest: manifest["files"]["weights"].update(sha256=f"sha256:{64 * '1'}"),
        lambda manifest: manifest["files"].pop("weights"),
        lambda manifest: manifest.update(digest=f"sha256:{64 * '1'}"),
    ],
    ids=["a setting", "a parent", "a file", "no file", "the digest"],
)
def test_a_digest_that_does_not_fit_is_found_though_the_seal_does(artifact, change):
    """The fingerprint holds the settings and the digest holds the files, so each is compared."""
    manifest = json.loads((artifact.path / MANIFEST).read_text())
    change(manifest)
    (artifact.path / MANIFEST).write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    with pytest.raises(ArtifactError, match="its digest is not that of its settings and files"):
        read_artifact(artifact.path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1}', b"{}",
     b'{"schema_version": 1, "seal": NaN}', b'{"schema_version": true}', b'{"schema_version": "3"}',
     b'{"schema_version": ' + b"9" * 5000 + b"}"],
    ids=lambda content: str(content[:20]),
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused_in_one_line(artifact, content):
    (artifact.path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_artifact(artifact.path)
    assert "lora-mnist" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_refused_with_the_cure(artifact):
    (artifact.path / MANIFEST).write_text('{"schema_version": 3, "something": "new"}')
    with pytest.raises(ArtifactError, match="newer") as caught:
        read_artifact(artifact.path)
    assert caught.value.hint == "upgrade lora-mnist"


def test_a_link_to_a_sound_folder_is_no_artifact(artifact, tmp_path):
    link = tmp_path / "linked"
    link.symlink_to(artifact.path, target_is_directory=True)
    with pytest.raises(ArtifactError, match="'linked' is a symbolic link, which is no artifact"):
        read_artifact(link)


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no readable"):
        read_artifact(tmp_path)


@pytest.mark.parametrize("content", [b"1235", b"123", b"12345", b"", None])
def test_a_changed_file_is_found(artifact, content):
    if content is None:
        (artifact.path / "weights").unlink()
    else:
        (artifact.path / "weights").write_bytes(content)
    with pytest.raises(ArtifactError, match="'some' is damaged: weights") as caught:
        artifact.read("weights")
    assert "runs remove some" in caught.value.hint


def test_a_file_that_was_not_published_is_not_read(artifact):
    (artifact.path / "extra").write_bytes(b"x")
    for file in ("extra", "../some/weights", MANIFEST):
        with pytest.raises(ArtifactError, match="has no file"):
            artifact.read(file)


def test_the_digest_is_over_the_content_and_not_over_time_name_logs_or_scores(publish, tmp_path):
    registry = Registry(tmp_path / "runs")
    first = publish(registry, "one")
    same = [
        publish(registry, "two"),
        publish(registry, "three", files={"weights": b"1234", "tensorboard/events": b"at 12:00"}),
        publish(registry, "four", scores=SCORES),
        publish(Registry(registry.root, note="another day"), "fourteen"),
    ]
    other = [
        publish(registry, "five", files={"weights": b"1235"}),
        publish(registry, "six", files={"weight": b"1234"}),
        publish(registry, "seven", config={"seed": 1}),
        publish(registry, "nine", dataset="kmnist"),
    ]
    lineage = [[Parent("base", name, registry.get(name).digest)] for name in ("one", "five")]
    other += [publish(registry, f"child-{i}", kind="adapter", parents=each) for i, each in enumerate(lineage)]
    other.append(publish(registry, "report", kind="report"))
    assert {artifact.digest for artifact in same} == {first.digest}
    assert len({artifact.digest for artifact in [first, *other]}) == 8
    assert len({artifact.seal for artifact in [first, *same]}) == 5


def test_the_content_digest_is_what_it_says():
    files = {"b": {"sha256": "sha256:2", "bytes": 1}, "a": {"sha256": "sha256:1", "bytes": 1}}
    text = '{"files":{"a":"sha256:1","b":"sha256:2"},"fingerprint":"sha256:f"}'
    assert content_digest("sha256:f", files) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_the_fingerprint_is_over_inputs_and_not_over_members_or_names():
    def fingerprint(*parents: Parent, **changes: Any) -> str:
        given: dict[str, Any] = {"kind": "adapter", "config": {"lr": 0.1}, "dataset": {"name": "mnist"}} | changes
        return Settings(**given, parents=parents).fingerprint()

    one = fingerprint(Parent("base", "b", "sha256:b"))
    assert fingerprint(Parent("base", "renamed", "sha256:b")) == one
    assert fingerprint(Parent("base", "b", "sha256:b"), Parent("member", "m", "sha256:m")) == one
    others = [
        fingerprint(),
        fingerprint(Parent("base", "b", "sha256:c")),
        fingerprint(Parent("input", "b", "sha256:b")),
        fingerprint(Parent("base", "b", "sha256:b"), config={"lr": 0.2}),
        fingerprint(Parent("base", "b", "sha256:b"), dataset={"name": "kmnist"}),
        fingerprint(Parent("base", "b", "sha256:b"), kind="base"),
        fingerprint(Parent("base", "b", "sha256:b"), code=TRAINING_CODE + 1),
    ]
    assert len({one, *others}) == 8


def test_a_whole_number_and_its_float_are_the_same_setting():
    """``alpha=1`` in a notebook and ``--alpha 1`` in a shell mean the same work."""
    whole = AdapterConfig(alpha=1, lr=1, dropout=0, val_split=0, weight_decay=0)
    real = AdapterConfig(alpha=1.0, lr=1.0, dropout=0.0, val_split=0.0, weight_decay=0.0)
    one, other = (Settings("adapter", config.to_json(), {"name": "mnist"}) for config in (whole, real))
    assert one.fingerprint() == other.fingerprint()


def test_an_artifact_can_be_copied_by_hand(artifact, tmp_path):
    copied = read_artifact(Path(shutil.copytree(artifact.path, tmp_path / "elsewhere" / "some")))
    assert copied.digest == artifact.digest
    assert copied.read("weights") == b"1234"
