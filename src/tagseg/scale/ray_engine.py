"""The same shards, spread over a Ray cluster: a pool of actors, each with the model loaded once.

Ray starts shards and nothing else: it never owns a file of results, so that what it loses is only done again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tagseg.errors import UserError

Work = Callable[[int], dict[str, Any]]


class _Worker:
    """Built once an actor. build: gives the function that does a shard."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self.work = build()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = [self.work(int(shard)) for shard in batch["shard"]]
        return {key: [row[key] for row in found] for key in found[0]}


def run(
    build: Callable[[], Work], shards: int, *, address: str | None, workers: int, cpus: int, gpus: float
) -> list[dict[str, Any]]:
    """Do all shards; gives a row a shard. build: pickled by Ray, called once in each actor.

    address: of a cluster, None for this machine. workers: actors. cpus, gpus: that each one holds.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError('--engine ray needs Ray Data: pip install "tagseg[ray]".') from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        todo = ray.data.from_items([{"shard": shard} for shard in range(shards)], override_num_blocks=shards)
        pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
        done = todo.map_batches(
            _Worker,
            batch_size=1,
            compute=pool,
            num_cpus=cpus,
            num_gpus=gpus or None,
            fn_constructor_args=(build,),
            max_restarts=-1,
            max_task_retries=-1,
        )
        return sorted(done.take_all(), key=lambda row: row["shard"])
    finally:
        if started:
            ray.shutdown()
