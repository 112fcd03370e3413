"""A file that is written to standard output is all that stands there."""

from __future__ import annotations

import pytest
from small_artifacts import BASE, R1

from lora_mnist_cli.cli import main


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
@pytest.mark.parametrize(
    ("command", "begin", "end", "told"),
    [
        (["explore", R1, "--output"], b"<!doctype html>", b"</html>\n", ""),
        (["plot", "history", R1, "--output"], b"\x89PNG", b"IEND\xaeB`\x82", ""),
        (["runs", "export", BASE], b"PK", b"\0\0", f": {BASE}"),
    ],
)
def test_a_file_on_standard_output_is_alone_there(command, begin, end, told, name, runs, capfdbinary):
    assert main([*command, name]) == 0
    printed = capfdbinary.readouterr()
    assert printed.out[: len(begin)].lower() == begin.lower()
    assert printed.out.endswith(end)
    assert f"{name}{told}" in printed.err.decode().splitlines()


def test_a_page_on_standard_output_can_not_be_opened(capfd):
    assert main(["explore", "--output", "-", "--open"]) == 2
    assert "--open needs a file" in capfd.readouterr().err
