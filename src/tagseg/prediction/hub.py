"""Models on the Hugging Face Hub: pushed with their card, loaded by `hf://owner/name@revision`."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagseg.errors import UserError
from tagseg.extras import need
from tagseg.files import write_text
from tagseg.prediction.model_card import model_card
from tagseg.run_folder import RunFolder

if TYPE_CHECKING:
    from tagseg.prediction.segmenter import Segmenter

PREFIX = "hf://"
MODEL_FILES = tuple(path.name for path in (RunFolder(".").model, RunFolder(".").weights))
CARD = "README.md"
FILES = (*MODEL_FILES, CARD)  # nothing else is fetched, and nothing of it is executed
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_address(path: str | Path) -> bool:
    """Whether a path is an address on the Hub; a Path has lost one of its slashes."""
    return str(path).startswith(("hf:/", "hf:\\"))


def fetch(address: str | Path) -> Path:
    """The folder of a model on the Hub, fetched into the cache of huggingface_hub, or found there without a network.

    address: `hf://owner/name`, or `hf://owner/name@revision` with a branch, a tag, or a commit of 40 digits, the only one
    that never changes. Raises UserError when there is no such model, or it cannot be reached and is not in the cache.
    """
    text = str(address).replace("\\", "/")
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UserError(f"{text} is no address of a model: write {PREFIX}owner/name or {PREFIX}owner/name@revision.")
    hub: Any = need("huggingface_hub", "hub", "Models on the Hugging Face Hub")
    repo, revision = match["repo"], match["revision"]
    try:
        folder = Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # its own kinds, those of the network, and ValueError for a name
        where = f"{repo} at {revision}" if revision else repo
        raise UserError(
            f"{where} cannot be fetched from the Hub ({type(error).__name__}): check its name and revision, the network, and "
            "for a private model HF_TOKEN."
        ) from error
    for name in MODEL_FILES:
        if not (folder / name).is_file():
            raise UserError(f"{repo} is no model of tagseg: it holds no {name}.")
    return folder


def push(
    segmenter: Segmenter,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a model with its description and card as `owner/name`, made where there is none; returns its address.

    The address names the commit, so it stands for this very model. private: of a new repository. revision: a branch.
    token: else that of `hf auth login` or HF_TOKEN. Raises UserError when the Hub refuses.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UserError(f"{repo} is no name on the Hub: write owner/name.")
    from tagseg.weights import save_weights  # torch: who asks `is_address` alone does without it

    hub: Any = need("huggingface_hub", "hub", "Models on the Hugging Face Hub")
    with tempfile.TemporaryDirectory(prefix="tagseg-") as name:
        folder = Path(name)
        description = segmenter.describe()
        if isinstance(description.get("training"), dict):  # the command holds folders of this machine
            description["training"] = {k: v for k, v in description["training"].items() if k != "command"}
        run = RunFolder(folder)
        save_weights(run.weights, segmenter.method)
        write_text(run.model, json.dumps(description, indent=2, ensure_ascii=False))
        write_text(folder / CARD, model_card(description))
        api = hub.HfApi(token=token)
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, revision=revision, commit_message=message or "Model of tagseg"
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{repo} could not be uploaded ({type(error).__name__}: {reason}): check its name, and HF_TOKEN."
            ) from error
    return f"{PREFIX}{repo}@{commit.oid}"
