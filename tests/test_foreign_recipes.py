"""Recipes and chains of someone else: whatever stands in the file, one short sentence."""

from pathlib import Path

import pytest

from tagseg.errors import UserError
from tagseg.recipe import load_recipe
from tagseg.workflows.chain import load_chain
from tests.test_foreign import BOMB

TEXTS = {
    "aliases that multiply": BOMB + "train: {steps: *j}\n",
    "one alias": "a: &a 3\ntrain: {steps: *a}\n",
    "no date": "train: {steps: 2024-99-99}\n",
    "a date": "train: {steps: 2024-01-01}\nteacher: {base: rrm-scenes, train: {steps: 2024-01-01}}\nsegmenter: x\n",
    "digits": f"train: {{steps: {'1' * 5000}}}\n",
    "deep": "train: " + "[" * 3000,
    "deep blocks": "train: " + "{a: " * 300 + "1" + "}" * 300,
    "a list as name": "method: {name: [1]}\n",
    "a table as name": "method: {name: {a: 1}}\n",
    "a number as base": "base: 3\n",
    "a table as base": "base: {a: [1]}\nteacher: {base: [1]}\nsegmenter: {base: {}}\n",
    "keys that are no text": "1: 2\n[1, 2]: 3\nnull: 4\n",
    "a long text": f"base: rrm-scenes\ntrain: {{steps: '{'x' * 100_000}'}}\n",
    "a long key": f"base: rrm-scenes\n{'k' * 100_000}: 1\n",
    "a large list": f"base: rrm-scenes\ntrain: {{steps: {[[1] * 1000] * 100}}}\n",
    "control characters": 'base: rrm-scenes\ntrain: {steps: "\\e[31mred\\n"}\n',
    "python": "!!python/object/apply:os.system [touch PWNED]\n",
    "not finite": "base: rrm-scenes\ntrain: {steps: .nan}\n",
    "rounds": f"teacher: rrm-scenes\nsegmenter: supervised-scenes\nrounds: {'9' * 4000}\n",
    "confidence": f"teacher: rrm-scenes\nsegmenter: supervised-scenes\nlabel: {{confidence: {'9' * 4000}}}\n",
    "nothing": "",
    "a list": "[1, 2]",
}


@pytest.mark.parametrize("load", [load_recipe, load_chain])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_one_short_sentence_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, load) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(text)
    with pytest.raises(UserError, match=r"r\.yaml|Recipe") as caught:
        load("r.yaml")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9: 1", b"\0" * 100, b"title: \x07"])
def test_bytes_that_are_no_yaml_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"r\.yaml"):
        load_recipe(path)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a\0b", "", ".", "/dev/zero", "\x1b[31m", "../" * 2000 + "x"], ids=lambda name: name[:10]
)
def test_names_that_are_no_file_are_named_short(name: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(name)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "override", ["a.b=" + "[" * 5000, "=" * 100_000, "train.steps=*a", "train.steps=" + "1" * 5000]
)
def test_overrides_are_echoed_short(override: str) -> None:
    with pytest.raises(UserError, match=r"train|--set") as caught:
        load_recipe("rrm-scenes", [override])
    assert len(str(caught.value)) < 500


def test_a_ladder_of_bases_ends(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i}.yaml").write_text(f"base: {tmp_path}/{i + 1}.yaml\n")
    (tmp_path / "100.yaml").write_text("base: rrm-scenes\n")
    with pytest.raises(UserError, match="bases"):
        load_recipe(tmp_path / "0.yaml")
    assert load_recipe(tmp_path / "95.yaml") == load_recipe("rrm-scenes")
