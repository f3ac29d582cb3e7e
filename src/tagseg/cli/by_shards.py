"""The options of commands that go by shards, in one place, and what is said at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tagseg.cli.frame import answer, belong_to, say
from tagseg.cli.groups import grouped
from tagseg.errors import UserError

if TYPE_CHECKING:
    from tagseg.scale.finish import Finished
    from tagseg.workflows.shards import Shards

CONTAINER, ENGINE, WORKERS = "tar", "local", 1  # where nothing else is given


@dataclass(frozen=True)
class Cut:
    """The options as they were given; as `Shards` has them."""

    shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="cut the photos into so many parts: docs/scale.md")
    ] = None
    shard: Annotated[
        str | None, typer.Option("--shard", help="do this part alone, such as 3/100; numbers begin at 0")
    ] = None
    container: Annotated[str, typer.Option("--container", help="of a part's masks: tar, parquet, png")] = CONTAINER
    engine: Annotated[str, typer.Option("--engine", help="what works on the parts: local, ray")] = ENGINE
    address: Annotated[str | None, typer.Option("--address", help="ray: of a cluster; else this machine")] = None
    workers: Annotated[int, typer.Option("--workers", min=1, help="ray: how many at once")] = WORKERS
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="parts: seconds that a photo may take")
    ] = None
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="parts: do the failed photos again")] = False

    def of(self, places: Sequence[str], **whole: bool) -> Shards | None:
        """How a command goes by shards; None where it does not.

        places: those that the command reads and writes. whole: whether options were given that shards know nothing of.
        Raises UserError for those, and for what needs --shards where it is missing.
        """
        of_ray: dict[str, object] = {"--address": self.address, "--workers": self.workers != WORKERS}
        if self.shards is not None:
            if self.engine != "ray":
                belong_to("--engine ray", of_ray)
            from tagseg.workflows.shards import Shards

            given = [f"--{name.replace('_', '-')}" for name, is_given in whole.items() if is_given]
            if given:
                raise UserError(f"{given[0]} does not go with --shards: leave one of them out (docs/scale.md).")
            return Shards(
                self.shards,
                self.shard,
                self.container,
                self.engine,
                self.address,
                self.workers,
                self.timeout,
                self.retry_errors,
            )
        more: dict[str, object] = {
            "--shard": self.shard,
            "--container": self.container != CONTAINER,
            "--engine": self.engine != ENGINE,
            "--timeout": self.timeout,
            "--retry-errors": self.retry_errors,
        }
        belong_to("--shards N (docs/scale.md)", more | of_ray)
        if any("://" in place for place in places):
            raise UserError("Stores need --shards N: docs/scale.md.")
        return None


by_shards = grouped("cut", Cut)
"""A command with the options of `Cut`, which it takes as its argument `cut`."""


def say_finished(whole: Finished | None, out: str) -> None:
    """Say what work by shards came to; None: a share of it, of which all is said.

    Raises UserError for photos that failed, and for what was left out.
    """
    if whole is None:
        return
    say(f"{whole.masks} of {whole.photos} masks were made in {whole.seconds:.0f} s of work; results are in {out}.")
    for name, why in whole.errors[:5]:
        answer(f"{name}: {why}", style="yellow")
    for sentence in whole.left_out:
        answer(sentence, style="yellow")
    if whole.left_out and not whole.errors:
        raise UserError(f"{len(whole.left_out)} of what was given had to be left out: see above.")
    if whole.errors:
        raise UserError(
            f"{len(whole.errors)} photo(s) failed: {out}/index.jsonl.gz names them, --retry-errors does them again."
        )
