"""The command as results tell it."""

import shlex

import pytest

from tagseg.workflows.given_command import command


def test_the_command_can_be_pasted_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "--images", "/home/ann/secret client/photos", "--set", "title=it's $HOME", "--out", "runs/a"]
    monkeypatch.setattr("sys.argv", ["/usr/bin/tagseg", *words])
    assert shlex.split(command()) == ["tagseg", *words]
