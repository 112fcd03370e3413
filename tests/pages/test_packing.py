import base64
import zlib

import numpy as np
import pytest

from lora_mnist_cli.pages.packing import pack_bytes, pack_floats


def _unpack(text):
    return zlib.decompress(base64.b85decode(text.translate(str.maketrans("[],", "<>&"))))


def test_every_float_is_there_to_the_last_bit():
    values = np.random.default_rng(0).normal(size=1001).astype("<f4")
    values[:6] = 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42
    planes = np.frombuffer(_unpack(pack_floats([values[:10], values[10:].reshape(-1, 1)])), np.uint8).reshape(4, -1)
    bits = sum(planes[i].astype("u8") << (8 * i) for i in range(4))
    back = ((bits >> 1) | ((bits & 1) << 31)).astype("<u4")
    assert (back == values.view("<u4")).all()


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 783])
def test_bytes_are_there_and_mean_nothing_in_html(length):
    content = bytes(np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8))
    text = pack_bytes(content)
    assert _unpack(text) == content
    assert not set('<>&"\\') & set(text)


def test_weights_become_shorter_than_in_base_64():
    weights = np.random.default_rng(0).uniform(-0.1, 0.1, 50_000).astype("<f4")
    assert len(pack_floats([weights])) < 0.82 * len(base64.b64encode(weights.tobytes()))
