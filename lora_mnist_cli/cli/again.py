"""The command line that makes an artifact again, worked out from its manifest."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.registry.newest import was_made_by
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import CLAIMS, METHODS
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.grid import RANK, SEED, by_recipe, closest_recipe, short, varying_axes
from lora_mnist_cli.settings.keep import ALL
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.stages.chains.run import RANK as CHAIN_RANK
from lora_mnist_cli.stages.chains.run import RECIPE, make_plan
from lora_mnist_cli.stages.papers.study import EPOCHS as PAPER_EPOCHS
from lora_mnist_cli.stages.records.resolving import adapter_name, base_name
from lora_mnist_cli.stages.records.results import first_config
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError

_FLAGS = {"hidden_sizes": "hidden_size"}
"""Field of a config → its option, where that has another name."""
Options = dict[str, str | bool | list[str]]
"""Name of an option → the text of its value, or texts where it is given several times; True for a switch."""


@dataclass
class Line:
    """A command, its arguments and its options."""

    command: str
    arguments: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)

    def words(self) -> list[str]:
        """Return what follows the program's name."""
        words = [self.command, *self.arguments]
        for name, value in self.options.items():
            flag = f"--{name.replace('_', '-')}"
            for text in value if isinstance(value, list) else ["" if value is True else str(value)]:
                # A value such as -0.5 would pass for an option.
                words += [f"{flag}={text}"] if text.startswith("-") else [flag, *([text] if text else [])]
        return words

    def __str__(self) -> str:
        return shlex.join(["lora-mnist", *self.words()])


def line_of(catalog: Catalog, artifact: Artifact, *, in_full: bool = False) -> Line:
    """Return the command that makes an artifact, once everything that it was made from is there.

    Args:
        in_full: give every setting, not only those that differ from the recipe's, and for a sweep's adapter its own.

    Raises:
        ArtifactError: where no command does, as for an imported adapter.
    """
    if artifact.kind == "report":
        return _of_report(catalog, artifact)
    if artifact.kind == "base":
        return _of_merged(catalog, artifact) if artifact.parents else _of_base(artifact, in_full)
    if "combined" in artifact.config:
        return _of_combined(catalog, artifact)
    if "imported" in artifact.config:
        raise ArtifactError(
            f"'{artifact.name}' was trained elsewhere and imported: no command makes it again",
            hint="lora-mnist import-adapter takes the folder that it came from", value=artifact.name,
        )  # fmt: skip
    if artifact.kind == "sweep":
        return _of_sweep(catalog, artifact, in_full)
    # A member's neighbours in its bank change how it is rounded, so that the sweep alone makes it byte for byte.
    sweep = _sweep_of(catalog, artifact)
    if sweep is None and "vary" in artifact.config:
        problem = f"'{artifact.name}' is of a sweep, which is not in {catalog.root}"
        raise ArtifactError(problem, hint="a sweep alone varies one source of chance", value=artifact.name)
    if sweep is None or (in_full and "vary" not in artifact.config):
        return _of_adapter(catalog, artifact, in_full)
    line = _of_sweep(catalog, sweep, in_full)
    return line if "keep" not in sweep.details else keeping(line, artifact.name)


def keeping(sweep: Line, name: str) -> Line:
    """Return the command of a sweep that keeps an adapter, beside those that it keeps already."""
    return replace(sweep, options=sweep.options | {"keep": name})


def lines_of(catalog: Catalog, artifact: Artifact) -> list[Line]:
    """Return the commands that make an artifact from nothing, in their order: those of what it was made from first.

    Raises:
        ArtifactError: where no command makes one of them, or one is missing.
    """
    found: dict[str, Line] = {}
    _collect(catalog, artifact, found)
    return list({str(line): line for line in found.values()}.values())


def _collect(catalog: Catalog, artifact: Artifact, found: dict[str, Line]) -> None:
    if artifact.digest in found:
        return
    line = line_of(catalog, artifact)
    # A report's command makes its own parts, and a sweep's its members.
    for role in ("base", "adapter") if line.command not in ("chain", "reproduce") else ():
        for parent in catalog.parents(artifact, role):
            _collect(catalog, parent, found)
    if line.command == "sweep":  # what was there before was not trained in its banks
        sweep = _sweep_of(catalog, artifact)
        assert sweep is not None
        for member in catalog.parents(sweep, "member"):
            if not was_made_by(member, sweep):
                _collect(catalog, member, found)
    found[artifact.digest] = line


def _sweep_of(catalog: Catalog, artifact: Artifact) -> Artifact | None:
    """Return a sweep itself, or the one that made an adapter; None if there is none."""
    if artifact.kind == "sweep":
        return artifact
    return next((made for made in _makers(catalog, artifact) if made.kind == "sweep"), None)


def _makers(catalog: Catalog, artifact: Artifact) -> list[Artifact]:
    """Return the sweeps and reports in whose time an artifact was made as one of their parts."""
    listing = (catalog.get(entry.name) for entry in catalog.descendants(artifact.name))
    return [made for made in listing if made.kind in ("sweep", "report") and was_made_by(artifact, made)]


def _of_base(artifact: Artifact, in_full: bool) -> Line:
    config = BaseConfig.from_json(artifact.config)
    options: Options = {"digits": str(config.digits)}
    options |= _unless("dataset", config.dataset, "mnist") | _settings(config, in_full)
    return Line("train-base", (), options | _named(artifact, base_name(config)) | _machine(artifact))


def _of_adapter(catalog: Catalog, artifact: Artifact, in_full: bool) -> Line:
    base = catalog.parent(artifact)
    config = AdapterConfig.from_json(artifact.config)
    options: Options = {"base": base.name, "digits": str(config.digits)}
    options |= _settings(config, in_full, layers=tuple(base.details["layers"]))
    return Line("finetune", (), options | _named(artifact, adapter_name(base, config)) | _machine(artifact))


def _of_sweep(catalog: Catalog, artifact: Artifact, in_full: bool) -> Line:
    base = catalog.parent(artifact)
    varying = (RANK, *varying_axes(artifact.config), SEED)
    lists = {axis.plural: artifact.config[axis.plural] for axis in varying}
    config = first_config(artifact, {})
    options: Options = {"base": base.name, "digits": str(config.digits)}
    if lists["ranks"] != [0]:
        options["ranks"] = _text(lists["ranks"])
    options |= {name: _text(values) for name, values in lists.items() if name not in ("ranks", "seeds")}
    options["seeds"] = as_ranges(lists["seeds"])
    settings = _settings(config, in_full, layers=tuple(base.details["layers"]))
    options |= {name: value for name, value in settings.items() if name not in {axis.field for axis in varying}}
    if "held_seed" in options:
        options["seed"] = options.pop("held_seed")
    if artifact.details["results"][0]["artifact"] != adapter_name(base, config):
        options["own_names"] = True
    options |= _unless("keep", artifact.details.get("keep", ALL), ALL)
    return Line("sweep", (), options | {"name": artifact.name} | _machine(artifact))


def _of_merged(catalog: Catalog, artifact: Artifact) -> Line:
    adapter = catalog.parent(artifact, "adapter")
    options: Options = {"alpha": short(artifact.config["merged_alpha"]), "digits": artifact.config["digits"]}
    return Line("merge", (adapter.name,), {**options, "name": artifact.name})


def _of_combined(catalog: Catalog, artifact: Artifact) -> Line:
    config = artifact.config
    options: Options = {
        "method": config["combined"], "weights": _text(config["combined_weights"]), "rank": str(config["rank"]),
        "seed": str(config["seed"]),
    }  # fmt: skip
    if config.get("combined_density") is not None:
        options["density"] = short(config["combined_density"])
    if config["combined"] != "dare":
        del options["seed"]
    adapters = [parent.name for parent in catalog.parents(artifact, "adapter")]
    return Line("combine", tuple(adapters), {**options, "name": artifact.name})


def _of_report(catalog: Catalog, artifact: Artifact) -> Line:
    config = artifact.config
    if "cure" in config:  # a network on its way through a chain
        if not (chains := _makers(catalog, artifact)):
            raise ArtifactError(f"'{artifact.name}' is of a chain, which is not in {catalog.root}", value=artifact.name)
        return line_of(catalog, chains[-1])
    options = _unless("dataset", artifact.dataset, "mnist") | _machine(artifact)
    if "tasks" in config:
        command, seeds = "chain", config["seeds"]
        default = make_plan(
            config["tasks"], strategies=config["cures"], seeds=seeds, recipe_name=config["recipe"],
            rank=config["rank"], epochs=config["epochs"], dataset=artifact.dataset, workspace=Workspace(catalog.root),
            known=artifact.known_digits,
        ).name  # fmt: skip
        options |= {"tasks": config["tasks"], "strategies": ",".join(config["cures"]), "seeds": as_ranges(seeds)}
        options |= _unless("recipe", config["recipe"], RECIPE) | _unless("rank", config["rank"], CHAIN_RANK)
        options |= _named(artifact, default)
    else:
        command = "reproduce"
        options |= _unless("study", config.get("study", "lora"), "lora")
        options |= {"seeds": as_ranges(config["seeds"])} if "seeds" in config else {"seed": str(config["seed"])}
        options |= {switch: True for switch in ("ceiling", "baselines") if config.get(switch)}
        if config.get("study") == "papers":
            claims: Options = {} if config["claims"] == list(CLAIMS) else {"claim": list(config["claims"])}
            return Line(command, (), options | claims | _unless("epochs", config["epochs"], PAPER_EPOCHS))
    options |= _unless("epochs", config["epochs"], BaseConfig().epochs)
    return Line(command, (), options)


def _settings(config: TrainingConfig, in_full: bool, layers: tuple[str, ...] = ()) -> Options:
    """Return the options of a config's fields, beside digits and data set: those that its recipe does not give."""
    method = config.method if isinstance(config, AdapterConfig) else None
    unused = METHODS[method].unused if method else ()
    last_layer_alone = method is not None and METHODS[method].last_layer_only
    values = config.to_json()
    recipe = closest_recipe(config)[0]
    own = by_recipe(recipe, method).to_json()
    if any(value is None and own[name] is not None for name, value in values.items() if name in own):
        recipe = "reference"  # an option can't take a recipe's value away
        own = by_recipe(recipe, method).to_json()
    options: Options = {} if recipe == "reference" or in_full else {"recipe": recipe}
    for name, value in values.items():
        if name in ("digits", "dataset", *unused) or value in (None, []):
            continue
        if value == own.get(name) and name != "method" and not in_full:
            continue
        if name == "target_layers" and (last_layer_alone or value == list(layers)):
            continue
        options[_FLAGS.get(name, name)] = _text(value)
    return options


def _named(artifact: Artifact, default: str) -> Options:
    return {} if artifact.name == default else {"name": artifact.name}


def _unless(name: str, value: object, default: object) -> Options:
    return {} if value == default else {name: str(value)}


def _machine(artifact: Artifact) -> Options:
    """Return the options of what it was trained on that may change its bytes."""
    made = artifact.environment
    options = _unless("threads", made.get("threads", 1), 1)
    if made.get("engine") == "fused" and artifact.kind != "report":  # no report's bases are trained by it
        options["engine"] = "fused"
    if "bank_megabytes" in made and artifact.kind == "sweep":
        options["bank_memory"] = str(made["bank_megabytes"])
    return options


def _text(value: object) -> str:
    """Write a value as an option takes it: a list with commas between its entries."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return short(value) if isinstance(value, (int, float)) else str(value)
