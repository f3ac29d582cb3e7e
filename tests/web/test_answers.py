"""Answers name files whose names are not UTF-8."""

from __future__ import annotations

import json

from tagseg.web.body import Answer


def test_names_that_are_not_utf_8_are_escaped() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    body = Answer({"name": name}).body
    assert json.loads(bytes(body)) == {"name": name}
