"""The plain network of the study; its code does not mention LoRA."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.models.architecture import CLASSES, PIXELS, layer_shapes


class MNISTModel(nn.Module):
    """A multilayer perceptron with ReLU between its linear layers, 784 → 64 → 64 → 10 by default.

    Its linear layers are named ``fc1``, ``fc2``, … from the input on.

    Args:
        hidden_sizes: units of each hidden layer.
        in_features: inputs; 784 pixels.
        num_classes: logits.
    """

    def __init__(
        self, hidden_sizes: Sequence[int] = (64, 64), *, in_features: int = PIXELS, num_classes: int = CLASSES
    ) -> None:
        super().__init__()
        self.sizes = (in_features, *hidden_sizes, num_classes)
        for name, (fan_in, fan_out) in layer_shapes(hidden_sizes, in_features, num_classes).items():
            self.add_module(name, nn.Linear(fan_in, fan_out))

    def sharing_layers(self) -> MNISTModel:
        """Return another model with the same layers, not with copies of them."""
        other = MNISTModel.__new__(MNISTModel)  # drawing the layers anew would take most of the time
        nn.Module.__init__(other)
        other.sizes = self.sizes
        for name, layer in self.named_children():
            other.add_module(name, layer)
        return other

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n × classes) of normalised images (n × 784, or n × 1 × 28 × 28)."""
        hidden = images.flatten(1)
        *inner, last = self.children()
        for layer in inner:
            hidden = F.relu(layer(hidden))
        logits: Tensor = last(hidden)
        return logits
