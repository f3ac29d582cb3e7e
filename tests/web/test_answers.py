"""Answers name files whose names are not UTF-8."""

from __future__ import annotations

import json

import pytest

from tagseg.web.body import Answer


def test_names_that_are_not_utf_8_are_escaped() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    body = Answer({"name": name}).body
    assert json.loads(bytes(body)) == {"name": name}


def test_a_number_that_is_none_is_never_sent() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Answer({"doubt": float("nan")})
