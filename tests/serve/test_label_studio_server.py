"""Against a real Label Studio, in an environment of its own; slow, and left out where none is named.

TAGSEG_LABEL_STUDIO: its command, such as /opt/ls/bin/label-studio; or TAGSEG_LABEL_STUDIO_URL and _ROOT of one that runs
as started below, with the token below.
"""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.review_journal import read_verdicts
from tagseg.outputs.brush import decode_brush
from tagseg.outputs.label_studio import regions
from tagseg.serve.app import create_app
from tagseg.serve.label_studio import Backend
from tagseg.serve.service import Service
from tagseg.web.listen import open_address
from tagseg.workflows.exchange import export_tasks, import_masks
from tests.review.photos import picture, run_server, segmenter

COMMAND, URL = os.environ.get("TAGSEG_LABEL_STUDIO"), os.environ.get("TAGSEG_LABEL_STUDIO_URL")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
CLASSES = ("background", "green", "blue")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (COMMAND or URL), reason="TAGSEG_LABEL_STUDIO names no Label Studio"),
]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address, and the folder that it serves photos from."""
    if URL:
        yield URL, Path(os.environ["TAGSEG_LABEL_STUDIO_ROOT"])
        return
    home = tmp_path_factory.mktemp("label-studio")
    (home / "root").mkdir()
    environment = os.environ | {
        "HOME": str(home), "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true", "COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(home / "root"), "LATEST_VERSION_CHECK": "false",
        "SSRF_PROTECTION_ENABLED": "false", "ML_BLOCK_LOCAL_IP": "false",
    }  # fmt: skip
    command = [str(COMMAND), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", "8931", "--data-dir"]
    command += [str(home / "data"), "--username", "a@example.com", "--password", "secret-pass-1", "--user-token", TOKEN]
    server = subprocess.Popen([*command, "--enable-legacy-api-token"], env=environment, stdout=subprocess.DEVNULL)
    url = "http://127.0.0.1:8931"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health")
                break
            except OSError:
                time.sleep(1)
        yield url, home / "root"
    finally:
        server.terminate()
        server.wait()


def ask(url: str, method: str, path: str, content: Any = None) -> Any:
    body = None if content is None else json.dumps(content).encode()
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        found = answer.read()
    return json.loads(found) if found[:1] in (b"{", b"[") else found


def test_tasks_go_out_are_corrected_and_come_back(studio: tuple[str, Path], tmp_path: Path) -> None:
    url, root = studio
    photos = root / f"photos {time.time():.0f}"
    photos.mkdir()
    masks = {}
    for number in range(3):
        photo = np.kron(picture(number), np.ones((4, 4, 1), np.uint8))
        Image.fromarray(photo).save(photos / f"p {number}.png")
        masks[f"p {number}"] = segmenter().predict(photo).mask
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_mask(tmp_path / "masks" / f"p {number}.png", masks[f"p {number}"])
    tags = {name: ["green", "blue"] for name in masks}
    export_tasks(tmp_path / "masks", photos, tmp_path / "tasks", to="label-studio", classes=CLASSES, tags=tags)

    interface = (tmp_path / "tasks/label-studio.xml").read_text(encoding="utf-8")
    project = ask(url, "POST", "/api/projects", {"title": "tagseg test", "label_config": interface})["id"]
    ask(url, "POST", "/api/storages/localfiles", {"project": project, "path": str(photos), "use_blob_urls": True})
    tasks = json.loads((tmp_path / "tasks/label-studio.json").read_text(encoding="utf-8"))
    imported = ask(url, "POST", f"/api/projects/{project}/import?return_task_ids=true", tasks)
    assert (imported["task_count"], imported["prediction_count"]) == (3, 3)
    first, second, third = imported["task_ids"]
    # the photos are shown: what the page asks for is the photo
    with Image.open(photos / "p 0.png") as image:
        shown = ask(url, "GET", tasks[0]["data"]["image"])
        assert shown == (photos / "p 0.png").read_bytes()
        assert image.size == (320, 240)

    corrected = np.where(masks["p 0"] == 1, 2, masks["p 0"]).astype(np.uint8)
    ask(url, "POST", f"/api/tasks/{first}/annotations/", {"result": regions(corrected, CLASSES)})
    ask(url, "POST", f"/api/tasks/{second}/annotations/", {"result": [], "was_cancelled": True})
    exported = ask(url, "GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    assert len(exported) == 3
    (tmp_path / "tasks/label-studio.json").write_text(json.dumps(exported), encoding="utf-8")
    assert import_masks(tmp_path / "tasks", tmp_path / "review", read_as="label-studio", images=photos).done == 1
    assert np.array_equal(read_mask(tmp_path / "review/masks/p 0.png"), corrected)
    assert list(read_verdicts(tmp_path / "review")) == ["p 0"]

    service = Service(segmenter(), name="colors")
    address = open_address("127.0.0.1", 0)
    with run_server(create_app(service, routes=Backend(service, images=photos).routes()), address):
        assert service.ready.wait(60)
        backend = ask(url, "POST", "/api/ml", {"url": address.url, "project": project, "is_interactive": True})
        assert backend["state"] == "CO"
        selected = {"selectedItems": {"all": False, "included": [third]}}
        ask(url, "POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", selected)
        made = [p for p in ask(url, "GET", f"/api/predictions?task={third}") if p["model_version"] == service.version]
        assert made
        brushes = {r["value"]["brushlabels"][0]: r for r in made[0]["result"] if r["type"] == "brushlabels"}
        for k, name in enumerate(CLASSES[1:], start=1):
            found = decode_brush(bytes(brushes[name]["value"]["rle"]), 240, 320)
            assert np.array_equal(found, masks["p 2"] == k)
        value = {"x": 100 * 30 / 80, "y": 50, "width": 0.3, "keypointlabels": ["green"]}
        click = {"type": "keypointlabels", "value": value, "original_width": 320, "original_height": 240}
        asked = {"task": third, "context": {"result": [click]}}
        answer = ask(url, "POST", f"/api/ml/{backend['id']}/interactive-annotating", asked)
        (region,) = answer["data"]["result"]
        assert region["value"]["brushlabels"] == ["green"]
