import pytest
import torch

from lora_mnist_cli.models.adapted_linear import attach
from lora_mnist_cli.models.alphas import at_alphas
from lora_mnist_cli.models.lora import adapted_layers, set_alpha
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig

ALPHAS = (-0.5, 0.0, 0.35, 1.0, 1.5)


@pytest.mark.parametrize("method", ["lora", "full", "dora"])
@pytest.mark.parametrize("layers", [None, ("fc2",)])
def test_logits_at_every_alpha_are_the_model_s_bit_for_bit(method, layers):
    torch.manual_seed(0)
    model = MNISTModel((16, 12))
    attach(model, AdapterConfig(method=method, rank=3 if method != "full" else 0, target_layers=layers))
    for layer in adapted_layers(model).values():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)
    images = torch.randn(50, 784)
    with torch.no_grad():
        every = at_alphas(model, images, ALPHAS)
        for alpha, logits in zip(ALPHAS, every, strict=True):
            set_alpha(model, alpha)
            assert torch.equal(logits, model(images))
