"""``lora-mnist merge``."""

from typing import Annotated

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import merge


@o.grouped
def command(
    *,
    adapter: shared.NewestByDefault = None,
    name: shared.Name = None,
    alpha: shared.Alpha = None,
    digits: Annotated[
        str | None, o.digits("Digits that the new base is said to know; default: what the adapter learned.")
    ] = None,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Publish an adapter merged into its base as a new base, with a certificate of what that changed.

    With --base and its name, adapters can be trained on it. The newest adapter is merged by default.
    """
    workspace = folders.workspace(output, note=publication.note)
    known = None if digits is None else DigitSet.parse(digits)
    base = merge(adapter, alpha=alpha, digits=known, merged=name, workspace=workspace, force=publication.force)
    certificate = base.details["merged"]
    changes = (
        f"merged at alpha {certificate['alpha']:g}: {certificate['predictions_changed']:,} of "
        f"{certificate['images']:,} test predictions changed; largest residual of a weight "
        f"{certificate['weight_residual']:.1e}, of a logit "
        f"{certificate['logit_residual']:.1e} (largest logit {certificate['largest_logit']:.1f})"
    )
    title = f"{base.name}: test scores"
    output.print_scores("merge", base, title, [changes], digest=base.digest, certificate=certificate)
