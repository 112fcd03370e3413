"""Names and aliases, filters and orders, lineage up and down, and "the newest" whatever the clock says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from published import SCORES, everything

from lora_mnist_cli.registry.artifact import MANIFEST, Artifact, Parent, Settings
from lora_mnist_cli.registry.catalog import TAGS
from lora_mnist_cli.registry.registry import STAGING, Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import ArtifactError, UsageError

Publish = Callable[..., Artifact]
BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"


def test_an_alias_stands_wherever_a_name_goes(example, run):
    tagged = run("runs", "tag", ADAPTER, "best", "--json").json
    assert (tagged["artifact"], tagged["alias"]) == (ADAPTER, "best")
    assert run("runs", "tag", BASE, "@mine").out == f"@mine stands for {BASE}\n"
    assert run("runs", "path", "@best").out == f"runs/{ADAPTER}\n"
    shown = run("runs", "show", "@best", "--json").json
    assert (shown["artifact"], shown["aliases"]) == (ADAPTER, ["best"])
    assert "@best" in run("runs", "show", ADAPTER).out
    assert run("evaluate", "@best", "--json").json["artifact"] == ADAPTER
    assert [row["artifact"] for row in run("runs", "verify", "@best", "--json").json["artifacts"]] == [BASE, ADAPTER]
    assert run("runs", "lineage", "@best", "--json").json["artifact"] == ADAPTER
    assert run("runs", "diff", "@best", "@mine", "--json").json["b"] == BASE
    assert run("runs", "export", "@best", "a.zip", "--json").json["artifact"] == ADAPTER
    assert [row["name"] for row in run("runs", "list", "--base", "@mine", "--json").json["artifacts"]] == [
        ADAPTER,
        SWEEP,
    ]
    made = run("finetune", "--base", "@mine", "--rank", "2", "--epochs", "0", "--json")
    assert made.code == 0
    assert Registry(example).get(made.json["artifact"]).parents[0].name == BASE
    assert run("runs", "tag", "@best", "again").out == f"@again stands for {ADAPTER}\n"
    assert run("runs", "remove", "@best", "--cascade", "--yes", "--json").json["removed"] == [SWEEP, ADAPTER]


def test_an_alias_is_another_name_and_no_other_artifact(example, run):
    run("runs", "tag", BASE, "mine")
    assert [row["name"] for row in run("runs", "list", "--json").json["artifacts"]] == [BASE, ADAPTER, SWEEP]
    assert run("runs", "show", "mine").code == 3
    assert run("runs", "untag", "mine", "--json").json["alias"] == "mine"
    outcome = run("runs", "show", "@mine")
    assert (outcome.code, outcome.out) == (3, "")
    assert "there is no alias '@mine'" in outcome.err
    assert run("runs", "untag", "@mine").code == 3
    assert everything(example) == [path for path in everything(example) if not path.startswith(".")]


def test_an_alias_stands_for_the_last_that_it_was_given_to(example, run):
    for name in (BASE, ADAPTER):
        run("runs", "tag", name, "mine")
    assert run("runs", "path", "@mine").out == f"runs/{ADAPTER}\n"
    assert list(Registry(example).tags()) == ["mine"]


@pytest.mark.parametrize("alias", ["", "@", "../x", ".x", "a/b", "@@x", "a b", "x" * 101, "ä", "-x"])
def test_a_word_that_can_be_no_alias_is_refused(example, run, alias):
    before = everything(example)
    for call in (["tag", BASE, "--", alias], ["untag", "--", alias], ["show", "--", f"@{alias}"]):
        outcome = run("runs", *call)
        assert outcome.code == 2
        assert len(outcome.err.splitlines()) == 1
    assert everything(example) == before


def test_an_alias_of_nothing_is_not_made(example, run):
    outcome = run("runs", "tag", "bas-0-4", "x")
    assert outcome.code == 3
    assert f"did you mean '{BASE}'?" in outcome.err
    assert not (example / TAGS).exists()
    run("runs", "tag", BASE, "best")
    assert "did you mean 'best'?" in run("runs", "show", "@bset").err


def test_an_alias_follows_a_folder_that_is_renamed(example, run):
    run("runs", "tag", BASE, "mine")
    (example / BASE).rename(example / "renamed")
    assert run("runs", "path", "@mine").out == "runs/renamed\n"
    (example / "renamed").rename(example / BASE)
    shutil.copytree(example, "elsewhere")
    assert run("runs", "path", "@mine", "--runs-dir", "elsewhere").out == f"elsewhere/{BASE}\n"


def test_an_alias_of_what_was_replaced_or_removed_says_so(registry, publish, run):
    first = publish(registry, "one")
    registry.tag("one", "mine")
    publish(registry, "one", files={"weights": b"other"}, force=True)
    outcome = run("runs", "show", "@mine")
    assert (outcome.code, outcome.out) == (3, "")
    assert f"the alias '@mine' stands for 'one' ({first.digest[:19]}…), which is not in runs any more" in outcome.err
    registry.tag("one", "mine")
    outcome = run("runs", "remove", "one")
    assert outcome.code == 0
    assert outcome.err == "the alias '@mine' stood for 'one' and is gone with it\n"
    assert "there is no alias" in run("runs", "show", "@mine").err
    assert not registry.root.exists()


def test_an_alias_stays_as_long_as_the_content_does(registry, publish):
    publish(registry, "one")
    publish(registry, "copy")
    registry.tag("one", "mine")
    registry.remove("one")
    assert registry.get("@mine").name == "copy"
    registry.remove("copy")
    assert registry.tags() == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b'{"name": "base-0-4"}', b'{"name": "../x", "digest": "sha256:1"}', b"[" * 5000,
     b'{"name": "base-0-4", "digest": ["x"]}', b"x" * 20_000],
    ids=lambda content: str(content[:20]),
)  # fmt: skip
def test_an_alias_that_is_damaged_is_none(example, run, content):
    run("runs", "tag", BASE, "good")
    (example / TAGS / "bad").write_bytes(content)
    outcome = run("runs", "show", "@bad")
    assert (outcome.code, len(outcome.err.splitlines())) == (3, 1)
    assert list(Registry(example).tags()) == ["good"]
    assert run("runs", "tag", BASE, "bad").code == 0
    assert run("runs", "path", "@bad").code == 0


@pytest.mark.parametrize("hidden", [STAGING, TAGS])
def test_nothing_is_written_through_a_hidden_folder_that_is_a_symbolic_link(example, run, tmp_path, hidden):
    victim = tmp_path / "victim"
    (victim / "one@elsewhere@x").mkdir(parents=True)
    (victim / "mine").write_text(json.dumps({"name": BASE, "digest": Registry(example).get(BASE).digest}))
    (victim / ".x.new").touch()
    before = everything(victim)
    (example / hidden).symlink_to(victim)
    calls = {
        STAGING: [["runs", "remove", SWEEP], ["finetune", "--rank", "5", "--epochs", "0"], ["runs", "clean"],
                  ["runs", "clean", "--all-hosts"], ["train-base", "--epochs", "0", "--name", "new"]],
        TAGS: [["runs", "tag", BASE, "x"], ["runs", "show", "@mine"], ["runs", "untag", "mine"]],
    }  # fmt: skip
    for call in calls[hidden]:
        outcome = run(*call)
        assert outcome.code == 3, call
        assert "Traceback" not in outcome.err
        assert everything(victim) == before
    assert run("runs", "clean").code in (0, 3)
    assert everything(victim) == before
    assert (example / SWEEP / MANIFEST).is_file()
    assert run("runs", "list").code == 0


def test_an_alias_that_is_a_symbolic_link_is_none_and_is_replaced(example, run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text(json.dumps({"name": BASE, "digest": Registry(example).get(BASE).digest}))
    before = victim.read_text()
    (example / TAGS).mkdir()
    (example / TAGS / "mine").symlink_to(victim)
    assert run("runs", "show", "@mine").code == 3
    assert run("runs", "tag", ADAPTER, "mine").code == 0
    assert run("runs", "path", "@mine").out == f"runs/{ADAPTER}\n"
    assert victim.read_text() == before


@pytest.fixture
def many(registry: Registry, publish: Publish) -> Registry:
    """Two bases, adapters on either, and a sweep."""
    bases = [publish(registry, f"base-{i}", config={"seed": i}, dataset=d) for i, d in enumerate(("mnist", "kmnist"))]
    for i, (digits, rank, accuracy, base) in enumerate(
        [("5-9", 1, 0.5, 0), ("5-9", 8, 0.9, 0), ("0-9", 8, 0.7, 1), ("7", 2, None, 1)]
    ):
        scores = {
            "subsets": [{"digits": digits, "count": 10, "accuracy": accuracy, "loss": 1.0}],
            "per_digit": SCORES["per_digit"],
        }
        parents = [Parent("base", bases[base].name, bases[base].digest)]
        config = {"digits": digits, "rank": rank, "seed": 9 - i}
        publish(
            registry, f"lora-{i}", kind="adapter", config=config, parents=parents, scores=scores,
            dataset=bases[base].dataset, files={"weights": bytes(10 * i)},
        )  # fmt: skip
    members = [Parent("member", name, registry.get(name).digest) for name in ("lora-0", "lora-1")]
    publish(registry, "sweep", kind="sweep", parents=[Parent("base", "base-0", bases[0].digest), *members])
    return registry


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", "base-0 base-1 lora-0 lora-1 lora-2 lora-3 sweep"),
        ("--kind base", "base-0 base-1"),
        ("--kind sweep", "sweep"),
        ("--kind report", ""),
        ("--digits 5-9", "lora-0 lora-1 sweep"),
        ("--digits 9,8,5-7", "lora-0 lora-1 sweep"),
        ("--digits all", "lora-2"),
        ("--digits 5", ""),
        ("--rank 8", "lora-1 lora-2"),
        ("--base base-0", "lora-0 lora-1 sweep"),
        ("--base base-1", "lora-2 lora-3"),
        ("--dataset kmnist", "base-1 lora-2 lora-3"),
        ("--kind adapter --rank 8 --digits 5-9 --base base-0 --dataset mnist", "lora-1"),
        ("--sort name --reverse", "sweep lora-3 lora-2 lora-1 lora-0 base-1 base-0"),
        ("--reverse", "sweep lora-3 lora-2 lora-1 lora-0 base-1 base-0"),
        ("--sort rank --kind adapter", "lora-0 lora-3 lora-1 lora-2"),
        ("--sort rank --kind adapter --reverse", "lora-1 lora-2 lora-3 lora-0"),
        ("--sort seed --kind adapter", "lora-3 lora-2 lora-1 lora-0"),
        ("--sort accuracy --kind adapter", "lora-3 lora-0 lora-2 lora-1"),
        ("--sort bytes --kind adapter --reverse", "lora-3 lora-2 lora-1 lora-0"),
        ("--sort kind --reverse", "sweep lora-0 lora-1 lora-2 lora-3 base-0 base-1"),
    ],
)
def test_filters_and_orders(many, run, options, names):
    outcome = run("runs", "list", "--json", *options.split())
    assert outcome.code == 0
    assert [row["name"] for row in outcome.json["artifacts"]] == names.split()
    printed = run("runs", "list", *options.split())
    rows = [line.split()[0] for line in printed.out.splitlines() if line.strip().startswith(("base", "lora", "sweep"))]
    assert rows == names.split()
    assert printed.err == ("" if names else "none of 7 artifacts in runs is like that\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--kind adaptor", "did you mean 'adapter'?"),
        ("--sort speed", "there is no order 'speed'"),
        ("--dataset minst", "did you mean 'mnist'?"),
        ("--digits 4-0", "did you mean 0-4?"),
        ("--rank x", "'x' is not a whole number"),
    ],
)
def test_a_filter_that_can_not_be_meant_is_refused(many, run, options, words):
    outcome = run("runs", "list", *options.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err
    assert run("runs", "list", "--base", "base-2").code == 3


def test_the_newest_of_a_kind_by_name(many, run):
    assert run("runs", "latest").out == "lora-3\n"
    assert run("runs", "latest", "--kind", "base").out == "base-1\n"
    assert run("runs", "latest", "--kind", "base", "--dataset", "mnist").out == "base-0\n"
    document = run("runs", "latest", "--kind", "sweep", "--json").json
    assert (document["artifact"], document["kind"]) == ("sweep", "sweep")
    outcome = run("runs", "latest", "--kind", "report")
    assert (outcome.code, outcome.out) == (3, "")
    assert "lora-mnist reproduce" in outcome.err
    assert run("runs", "latest", "--kind", "bas").code == 2


def test_lineage_is_a_tree_up_and_a_list_down(many, run):
    document = run("runs", "lineage", "sweep", "--json").json
    assert [(row["role"], row["name"]) for row in document["made_from"]] == [
        ("base", "base-0"), ("member", "lora-0"), ("member", "lora-1"),
    ]  # fmt: skip
    assert document["made_from"][0]["made_from"] == []
    assert [row["name"] for row in document["made_from"][1]["made_from"]] == ["base-0"]
    assert run("runs", "lineage", "base-0", "--json").json["needed_by"] == ["lora-0", "lora-1", "sweep"]
    printed = run("runs", "lineage", "sweep").out.splitlines()
    assert printed[0].startswith("sweep (sweep, sha256:")
    assert [sum(name in line for line in printed) for name in ("base-0", "lora-0", "lora-1")] == [3, 1, 1]
    assert printed[-1] == "needed by: –"
    assert run("runs", "lineage", "base-0").out.splitlines()[-1] == "needed by: lora-0, lora-1, sweep"


def test_lineage_says_what_is_missing_and_finds_what_was_renamed(many, run):
    (many.root / "lora-0").rename(many.root / "renamed")
    shutil.rmtree(many.root / "base-0")
    rows = run("runs", "lineage", "sweep", "--json").json["made_from"]
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("base-0", None), ("renamed", "adapter"), ("lora-1", "adapter"),
    ]  # fmt: skip
    assert run("runs", "lineage", "sweep").out.count("MISSING") == 3


def test_a_whole_family_can_be_removed_at_once(many, run):
    refused = run("runs", "remove", "base-0")
    assert refused.code == 3
    assert "'base-0' can't be removed: lora-0, lora-1, sweep need it" in refused.err
    assert "lora-mnist runs remove base-0 --cascade deletes them too" in refused.err
    unasked = run("runs", "remove", "base-0", "--cascade")
    assert (unasked.code, unasked.out) == (2, "")
    assert "--cascade also deletes 3 artifacts made from 'base-0': lora-0, lora-1, sweep (with --yes" in unasked.err
    assert run("runs", "path", "base-0").code == 0
    document = run("runs", "remove", "base-0", "--cascade", "--yes", "--json").json
    assert document["removed"][0] == "sweep"
    assert document["removed"][-1] == document["artifact"] == "base-0"
    assert set(document["removed"]) == {"base-0", "lora-0", "lora-1", "sweep"}
    assert many.names() == ["base-1", "lora-2", "lora-3"]
    assert run("runs", "remove", "base-1", "--cascade", "--yes").out.splitlines()[-1] == "removed base-1"
    assert not many.root.exists()


def test_while_its_content_is_there_twice_a_cascade_takes_no_children(registry, publish):
    base = publish(registry, "base")
    publish(registry, "copy")
    publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    assert registry.remove("base", cascade=True) == ["base"]
    assert registry.names() == ["child", "copy"]


def test_a_dry_run_of_cleaning_lists_what_there_is_and_leaves_it(example, run):
    from lora_mnist_cli.system.locks import HOST

    dead = example / STAGING / f"lora-5-9-r7@{HOST}@abc"
    far = example / STAGING / "lora-5-9-r8@elsewhere@abc"
    for folder in (dead, far):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "half").write_bytes(b"12345")
        (folder / "owner.json").write_text(json.dumps({"pid": 4242, "started": "2026-01-01 00:00:00", "needs": []}))
    before = everything(example)
    document = run("runs", "clean", "--dry-run", "--json").json
    assert document["dry_run"] is True
    first, second = document["staging"]
    assert (first["name"], first["host"], first["pid"], first["state"]) == ("lora-5-9-r7", HOST, 4242, "dead")
    assert (first["bytes"], first["files"], first["removed"]) == (5, ["inner/half"], False)
    assert (second["host"], second["state"]) == ("elsewhere", "another host")
    printed = run("runs", "clean", "--dry-run").out
    for words in ("lora-5-9-r7", "inner/half", "4242", "2 staging folders, 1 dead, 0 removed."):
        assert words in printed
    assert everything(example) == before
    assert [row["removed"] for row in run("runs", "clean", "--json").json["staging"]] == [True, False]
    assert far.exists()
    assert not dead.exists()
    assert [row["removed"] for row in run("runs", "clean", "--all-hosts", "--json").json["staging"]] == [True]
    assert not (example / STAGING).exists()


def test_owners_that_make_no_sense_are_cleaned_as_well(example, run):
    from lora_mnist_cli.system.locks import HOST

    for i, content in enumerate(
        (b"", b"[" * 5000, b'{"needs": 1, "pid": {"a": 1}, "started": [1]}', b'{"needs": [{}]}')
    ):
        folder = example / STAGING / f"x{i}@{HOST}@\x1b[2J"
        folder.mkdir(parents=True)
        (folder / "owner.json").write_bytes(content)
    for call in (["--dry-run"], ["--dry-run", "--json"], []):
        outcome = run("runs", "clean", *call)
        assert (outcome.code, outcome.err) == (0, "")
        assert "\x1b" not in outcome.out
    assert not (example / STAGING).exists()


def test_an_orphan_is_not_published_though_its_parent_went_while_it_was_made(registry, publish, run):
    """Whoever removes a folder by hand asks nobody."""
    base = publish(registry, "base")
    publish(registry, "other", config={"seed": 7})
    parents = [Parent("base", "base", base.digest)]

    def work() -> None:
        with registry.staging("child", parents) as folder:
            (folder / "weights").write_bytes(b"1")
            shutil.rmtree(registry.root / "base")
            settings = Settings(
                "adapter",
                AdapterConfig(digits=DigitSet([5]), target_layers=("fc1",)).to_json(),
                base.settings.dataset,
                tuple(parents),
            )
            details = {"base_digits": "0-4", "trainable_parameters": 1}
            registry.publish(folder, settings, scores=SCORES, details=details, environment={}, wall_seconds=0.0)

    with pytest.raises(ArtifactError, match=r"'child' needs 'base' \(sha256:.*which was removed meanwhile"):
        work()
    assert registry.names() == ["other"]
    with pytest.raises(ArtifactError, match="removed meanwhile"):
        registry.staging("child", parents).__enter__()
    assert everything(registry.root) == ["other", "other/artifact.json", "other/weights"]


def test_a_parent_that_was_renamed_meanwhile_is_no_loss(registry, publish):
    base = publish(registry, "base")
    (registry.root / "base").rename(registry.root / "renamed")
    child = publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    assert registry.parent(child).name == "renamed"


def test_a_parent_that_is_damaged_says_so_itself(example, run):
    (example / BASE / MANIFEST).write_text("{")
    assert f"'{BASE}' is damaged" in run("evaluate", ADAPTER).err


def test_names_are_checked_before_anything_is_looked_up(registry):
    for name in ("../x", "/etc", "@../x", "a/b", "", "@"):
        with pytest.raises(UsageError):
            registry.get(name)
