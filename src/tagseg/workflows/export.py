"""A trained model as one file for other tools, described in the file itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from tagseg import __version__
from tagseg.errors import UserError
from tagseg.files import make_folder, to_json, write_text
from tagseg.foreign import read_text
from tagseg.interrupt import check
from tagseg.outputs.model_files import INPUT, OUTPUTS, write_onnx, write_safetensors, write_torch
from tagseg.places import check_output, is_link
from tagseg.prediction.load import HEADER
from tagseg.prediction.model_card import CARD, license_of, model_card
from tagseg.prediction.segmenter import Segmenter
from tagseg.quoting import shell_line

# A path from the root, a home folder, a drive or a share, at the start of a word or behind "="; links have a scheme before.
_START = r"(?<![\w:.~/\\-])(?:~\w*|[A-Za-z]:)?[/\\]"
_PLACE = re.compile(_START + r"[^\s'\",;|]+")
_QUOTED_PLACE = re.compile(_START + r"[^'\",;|]+")
_PLACE_OF_WORD = re.compile(_START + r"[^,;|]+")  # in a word of a command, which may hold spaces and quotes
FORMATS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


def export(segmenter: Segmenter, out: Path, format: str | None = None) -> list[str]:
    """Write the model to the file `out`, and its card beside it as `<out>.md`; returns sentences about what was done.

    format: onnx, torch (a torch.export program) or safetensors (what `tagseg.load` reads); by the file's suffix when
    not given. Raises UserError for another format, a suffix that does not fit, a file that is there and no export, and a network
    that cannot be exported.
    """
    format = format or next((name for name, suffix in FORMATS.items() if suffix == out.suffix.lower()), None)
    if format not in FORMATS:
        raise UserError(f"There is no export format {format or out.suffix!r}; there are {', '.join(FORMATS)}.")
    if out.suffix.lower() != FORMATS[format]:
        raise UserError(f"{out} should end in {FORMATS[format]} for the format {format}.")
    if out.is_dir():
        raise UserError(f"{out} is a folder: choose a file name for --out.")
    card_path = out.with_name(out.name + ".md")
    for path in (out, card_path):
        check_output(path, segmenter.places)
        if (path.exists() or is_link(path)) and not _is_card(card_path):
            raise UserError(f"{path} is there already and is no export of tagseg: choose another --out.")
    make_folder(out.parent)
    description = _traveling(segmenter.describe())
    card = model_card(description)
    facts = {HEADER: to_json(description), "card": card} | _summary(description)
    network = segmenter.method
    lines = []
    renewed = card_path.exists()
    if not renewed:
        write_text(card_path, card)  # before the model: by its card a file is known as an export
    try:
        check()
        if format == "safetensors":
            write_safetensors(network, {"format": "pt"} | facts, out)
        else:
            write = write_onnx if format == "onnx" else write_torch
            worst = write(network, facts, out)
            lines.append(
                f"Checked on photos of two sizes: probabilities differ from the model's by at most {worst:.0e}."
            )
            lines.append(
                f"Input {INPUT}: uint8 RGB (B, H, W, 3) of any size, normalized inside; outputs {', '.join(OUTPUTS)}: "
                "float32 (B, K, H, W) and uint8 (B, H, W), in one pass without dense CRF."
            )
            settings = segmenter.settings
            if settings.resizes:
                side = (
                    f"longer side has {settings.long_side}"
                    if settings.long_side
                    else f"shorter side has {settings.short_side}"
                )
                lines.append(f"The model reads photos whose {side} pixels: scale them before, no graph does it.")
            elif settings.largest:
                lines.append(
                    f"The model reads photos with at most {settings.largest:,} pixels: shrink larger ones before, no graph "
                    "does it."
                )
    except BaseException:
        if not renewed:
            card_path.unlink(missing_ok=True)
        raise
    if renewed:
        write_text(card_path, card)  # until here the old model and its card stand together
    return [f"Written to {out}, described in {card_path}.", *lines]


def _is_card(path: Path) -> bool:
    """Whether a file is a model card that `export` wrote."""
    return path.is_file() and not is_link(path) and read_text(path, "a model card").startswith(CARD)


def _summary(description: dict[str, Any]) -> dict[str, Any]:
    """What a reader of another tool looks for first, each under a key of its own."""
    return {
        "classes": description["classes"],
        "method": description["method"]["name"],
        "backbone": description["model"]["backbone"],
        "license": license_of(description),
        "input": f"{INPUT}: uint8 RGB (B, H, W, 3), values 0 to 255, normalized inside",
        "tagseg_version": __version__,
    }


def _traveling(value: Any) -> Any:
    """The same description with the last name alone of every absolute path: a model travels, its folders are private.

    Names of classes are no paths, whatever they look like.
    """
    if isinstance(value, dict):
        cleaned = {key: each if key == "classes" else _traveling(each) for key, each in value.items()}
        if isinstance(given := value.get("command"), str):
            cleaned["command"] = _without_places(given)
        return cleaned
    if isinstance(value, list | tuple):
        return [_traveling(each) for each in value]
    if not isinstance(value, str):
        return value
    text = re.sub("'([^']*)'", lambda quoted: f"'{_QUOTED_PLACE.sub(_last_name, quoted[1])}'", value)
    return _PLACE.sub(_last_name, text)


def _without_places(command: str) -> str:
    """A command with the last name alone of every absolute path in its words."""
    lexer = shlex.shlex(command, posix=True)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""  # a backslash may be one of Windows' paths
    try:
        words = list(lexer)
    except ValueError:  # from before words were quoted, with an odd quote
        return str(_traveling(command))
    return shell_line(*(_PLACE_OF_WORD.sub(_last_name, word) for word in words))


def _last_name(place: re.Match[str]) -> str:
    return re.split(r"[/\\]", place[0].rstrip("/\\"))[-1] or "."
