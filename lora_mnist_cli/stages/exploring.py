"""A page to play with: a base and adapters in one HTML file, which opens in a browser without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.records.histories import kept_names, members, not_kept
from lora_mnist_cli.stages.records.resolving import common_base, named_once
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.output_file import check_writable, is_stdout, output_file
from lora_mnist_cli.system.work import IMAGES, LOADING, SCORING

PAGE_FILE = "explore.html"
MOST_ADAPTERS = 24
"""A page of more would be slow to load."""


@dataclass(frozen=True)
class Page:
    """A page that was written: the base and the adapters on it, its file, and the size in bytes."""

    base: Artifact
    adapters: tuple[Artifact, ...]
    path: Path
    size: int


@stage
def explore(
    names: Sequence[str] = (), *, output: Path | str = PAGE_FILE, route: bool = False,
    workspace: Workspace | None = None,
) -> Page:  # fmt: skip
    """Write a page that shows what adapters add to their base, and what it then forgets.

    Args:
        names: sweeps, adapters, or reports of the study, all on one base; by default the newest sweep, or the newest
            adapter where there is none. Of a sweep over several seeds, the first seed is shown.
        output: the HTML file, or ``-`` for standard output.
        route: show what the densities of the experts' digits say, which needs their statistics; protected adapters
            have it in any case, unless one that is shown has none.

    Raises:
        UsageError: where an adapter is named twice, there are too many, or the file's name does not end in .html.
        ArtifactError: where an artifact is missing, damaged or of another kind, adapters are on several bases, or the
            logits of one are not finite at an alpha of the page.
        DataError: where the test images are not available.
        MachineError: where the file can't be written.
    """
    workspace, path = workspace or Workspace(), Path(output)
    if path.suffix.lower() not in (".html", ".htm") and not is_stdout(path):
        raise UsageError(f"a page is an HTML file, not '{path.name}'", hint="end the name in .html", value=path)
    check_writable(path, "--output")
    adapters = find_adapters(names, workspace)
    base = common_base(workspace.registry, adapters, "a page shows adapters on one base")
    scoring = {SCORING: len(adapters) * costs.PAGE_OF_ADAPTER}
    workspace.reporter.plan({LOADING: costs.loading(), IMAGES: costs.READING, **scoring})
    workspace.reporter.phase(LOADING, costs.loading())
    from lora_mnist_cli.pages.assembly import assemble
    from lora_mnist_cli.stages.pictures.of_page import page_record

    content = assemble("explore", page_record(workspace, base, adapters, route=route))
    with machine_errors(f"can't write {path}"), output_file(path) as file:
        file.write(content)
    return Page(base, tuple(adapters), path, len(content))


def find_adapters(names: Sequence[str], workspace: Workspace) -> list[Artifact]:
    """Return the adapters that sweeps, reports and adapters of these names stand for, in their order.

    Raises:
        UsageError, ArtifactError: as :func:`explore`.
    """
    registry = workspace.registry
    named = [registry.get(name, "sweep", "adapter", "report") for name in names] or [
        workspace.latest("sweep", "adapter")
    ]
    named_once(artifact.name for artifact in named)
    adapters = {adapter.name: adapter for artifact in named for adapter in _adapters_of(artifact, workspace)}
    if not adapters:
        raise ArtifactError(f"'{named[0].name}' has no adapters to show", hint="name a sweep or an adapter")
    if len(adapters) > MOST_ADAPTERS:
        problem = f"a page shows at most {MOST_ADAPTERS} adapters, not {len(adapters)}"
        raise UsageError(problem, hint=f"name some of them: {', '.join(list(adapters)[:3])} …", value=len(adapters))
    return list(adapters.values())


def _adapters_of(artifact: Artifact, workspace: Workspace) -> list[Artifact]:
    """Return an adapter itself, those that a sweep kept and that did not diverge, or those that a study trained."""
    registry = workspace.registry
    if artifact.kind == "adapter":
        return [artifact]
    if artifact.kind == "report":
        inputs = [registry.locate(parent.name, parent.digest) for parent in artifact.parents if parent.role == "input"]
        found = [registry.get(name) for name in inputs if name is not None]
        return [each for part in found if part.kind in ("sweep", "adapter") for each in _adapters_of(part, workspace)]
    sound = [row for row in artifact.details["results"] if not row.get("failed")]
    kept = kept_names(artifact)
    rows = [row for row in sound if row["artifact"] in kept]
    if sound and not rows:
        raise not_kept(artifact, sound[0]["artifact"])
    first = min((row["seed"] for row in rows), default=0)
    chosen = [row for row in rows if row["seed"] == first]
    if len(chosen) < len(rows):
        workspace.reporter.notice(f"showing seed {first} of '{artifact.name}'; name adapters to see others")
    return members(registry, artifact, chosen)
