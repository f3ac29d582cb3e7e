"""The card of a model, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tagseg import __version__
from tagseg.foreign import shown
from tagseg.outputs.inert import code, markdown
from tagseg.scores import percent

CARD = "---\nlibrary_name: tagseg\n"  # how a model card begins


def license_of(description: dict[str, Any]) -> str:
    """The license of the weights that a model started from, or "unknown"."""
    model = description["model"]
    return model.get("license") or model.get("licence") or "unknown"  # the second is its name before


def check_training(facts: Mapping[str, Any]) -> None:
    """Raise ValueError where what is said of a model's training, and of its scores, cannot be shown."""
    training = facts.get("training")
    if not isinstance(training, dict | None):
        raise ValueError(f"its training is no mapping: {shown(training)}")
    scores = (training or {}).get("scores") or {}
    for protocol in scores.values() if isinstance(scores, dict) else [scores]:
        for values in protocol.values() if isinstance(protocol, dict) else [protocol]:
            if not isinstance(values, dict) or not isinstance(values.get("miou"), int | float | None):
                raise ValueError(f"its scores are no numbers by protocol and branch: {shown(values)}")


def model_card(description: dict[str, Any]) -> str:
    """The model's card as Markdown: what it is, what it learned from, its scores with their protocol, licences."""
    training = description.get("training") or {}
    classes, method = description["classes"], description["method"]["name"]
    lines = [
        *CARD.splitlines(),
        "pipeline_tag: image-segmentation",
        "---",
        f"# {markdown(training.get('title') or method)}",
        "",
        f"A segmentation model of {len(classes)} classes with background, made with tagseg {__version__}.",
        "",
        "| | |",
        "|---|---|",
        f"| Method | {markdown(method)} |",
        f"| Backbone | {markdown(description['model']['backbone'])}, output stride {description['model']['output_stride']} |",
        f"| Classes, in the order of the mask's values | {', '.join(map(markdown, classes))} |",
        f"| Learned from | {markdown(training.get('photos', 'an unknown number of'))} photos |",
        f"| Labels used | {markdown(training.get('labels', 'unknown'))} |",
        f"| Licence of the backbone's initial weights | {markdown(license_of(description))} |",
        f"| Trained on | {markdown(training.get('machine', 'unknown'))}, {markdown(training.get('minutes', '?'))} minutes |",
        f"| Command | {code(training.get('command', 'unknown'))} |",
        "",
        "## Scores",
    ]
    scores = training.get("scores") or {}
    if not scores:
        lines.append("None were measured: there were no true masks.")
    for protocol, branches in scores.items():
        lines += [
            f"On photos left out of training, {protocol} at prediction, mIoU in % from one confusion matrix:",
            "",
            "| branch | mIoU | photos |",
            "|---|---:|---:|",
            *(
                f"| {markdown(name)} | {percent(values.get('miou'))} | {markdown(values.get('photos', '?'))} |"
                for name, values in branches.items()
            ),
        ]
    lines += ["", "## Reading photos", "```json", json.dumps(description["predict"]), "```", ""]
    return "\n".join(lines)
