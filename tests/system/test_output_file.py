"""What a user names to be written: only a plain file is ever replaced."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.output_file import check_writable, output_file


def write(path: Path, content: bytes = b"new") -> None:
    with output_file(path) as file:
        file.write(content)


def test_a_plain_file_is_replaced_and_a_link_leads_to_it(tmp_path):
    (tmp_path / "inner").mkdir()
    link, file = tmp_path / "link", tmp_path / "inner" / "file"
    link.symlink_to(file)
    for content in (b"first", b"second"):
        write(link, content)
        assert (link.is_symlink(), file.read_bytes()) == (True, content)
    assert os.listdir(file.parent) == ["file"]


def test_a_device_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "link"):
        write(path)
        assert stat.S_ISCHR(path.stat().st_mode)
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join(60)
    assert read == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_is_written_on(name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sys.stdout.write("before\n")
    write(Path(name))
    sys.stdout.write(" after\n")
    assert capfd.readouterr().out == "before\nnew after\n"
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_written_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "a.xml"):
        with pytest.raises(MachineError, match="can't write"):
            check_writable(path, "--junit")
    check_writable(tmp_path / "a.xml", "--junit")
    assert os.listdir(tmp_path) == []
