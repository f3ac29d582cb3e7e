"""What a folder of tagseg is: a run, a chain or a reviewed set; its state, its scores, and what can be done next."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tagseg.errors import UserError
from tagseg.quoting import shell_line
from tagseg.run_folder import ChainFolder, RunFolder
from tagseg.workflows.opened import run_recipe


@dataclass(frozen=True)
class Info:
    """kind: run or chain. state: in words. scores: mIoU in percent of each branch, before and after the CRF.

    size: bytes of the folder, and of its checkpoints. next: commands that make sense now.
    """

    path: str
    kind: str
    state: str
    method: str = ""
    backbone: str = ""
    classes: tuple[str, ...] = ()
    minutes: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    size: int = 0
    checkpoints: int = 0
    next: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        model = f"{self.method} on {self.backbone}" if self.method else ""
        scores = ", ".join(f"{name} {value:.1f}" for name, value in self.scores.items())
        told = {
            "state": self.state,
            "model": model,
            "classes": ", ".join(self.classes),
            "minutes": "" if self.minutes is None else f"{self.minutes:g}",
            "mIoU": scores or ("none: no true masks were given" if self.state == "finished" else ""),
            "size": f"{self.size / 1e6:.0f} MB, {self.checkpoints / 1e6:.0f} of them checkpoints",
        }
        rows = [f"{name:8} {text}" for name, text in told.items() if text]
        return [f"{self.path} is a {self.kind}.", *rows, *(f"next     {command}" for command in self.next)]


def info(path: Path) -> Info:
    """What is in a folder. Raises UserError where it holds nothing of tagseg."""
    chain = ChainFolder(path)
    if chain.record.is_file():
        return _chain(chain)
    run = RunFolder(path)
    if not run.holds_run():
        raise UserError(
            f"{path} holds no run and no chain of tagseg: give the --out of `tagseg train` or `tagseg run`."
        )
    recipe = run_recipe(path)
    facts: dict[str, Any] = {"method": recipe.method.name, "backbone": recipe.model.backbone}
    if not run.finished:
        step = max((int(row["step"]) for row in run.metric_rows()), default=0)
        state = f"step {step} of {recipe.train.steps}; the command that began it goes on"
        return Info(str(path), "run", state, **facts, **_sizes(path))
    result = run.result()
    scores = {
        f"{name} ({protocol})": part["miou"]
        for protocol, branches in result["scores"].items()
        for name, part in branches.items()
        if isinstance(part, dict) and part.get("miou") is not None
    }
    classes = tuple(str(name) for name in result["classes"])
    return Info(
        str(path), "run", "finished", **facts, classes=classes, minutes=result["minutes"], scores=scores,
        **_sizes(path), next=_commands(path),
    )  # fmt: skip


def _chain(chain: ChainFolder) -> Info:
    record, last = chain.read_record()
    done = [name for name, facts in record.items() if facts.get("done")]
    if not record.get("report", {}).get("done"):
        state = f"{', '.join(done) or 'nothing'} done; `tagseg run` with the same --out goes on"
        return Info(str(chain.path), "chain", state, **_sizes(chain.path))
    inner = info(chain.stage(last).path)
    told = asdict(inner) | {"path": str(chain.path), "kind": "chain"} | _sizes(chain.path)
    return Info(**(told | {"next": _commands(chain.path) if inner.next else ()}))


def _commands(path: Path) -> tuple[str, ...]:
    place = shell_line(path)
    return (
        f"tagseg predict {place} PHOTOS --out masks --format overlay",
        f"tagseg label {place} --out pseudo-masks",
        f"tagseg export {place} --out model.onnx",
    )


def _sizes(path: Path) -> dict[str, Any]:
    files = [(file, file.lstat().st_size) for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    kept = sum(size for file, size in files if file.parent.name == RunFolder(path).checkpoints.name)
    return {"size": sum(size for _, size in files), "checkpoints": kept}
