"""Which shards a process works on: as it is told, or as the engine that started it says."""

from __future__ import annotations

from collections.abc import Mapping

from tagseg.errors import UserError

# variable of the number, variable of how many there are, whether numbers begin at 1
_ENGINES = (
    ("TAGSEG_SHARD", "TAGSEG_SHARDS", False),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", False),
    ("JOB_COMPLETION_INDEX", "", False),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "", False),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT", False),
    ("LSB_JOBINDEX", "", True),
    ("PBS_ARRAY_INDEX", "", False),
    ("SGE_TASK_ID", "", True),
)


def own_shards(told: str | None, shards: int, environment: Mapping[str, str]) -> tuple[list[int], str] | None:
    """The numbers of the shards to do, and who said so; None where nobody did, and all are to be done.

    told: "i/n" with 0 <= i < n, or "i". shards: how many the plan has. A task of an array of fewer tasks than shards
    does every so-many-th. Raises UserError for numbers that cannot be.
    """
    if told is not None:
        number, _, of = told.partition("/")
        if not number.isdecimal() or (of and not of.isdecimal()):
            raise UserError(f"--shard should be a number and how many, such as 3/100, not {told!r}.")
        return _every(int(number), int(of or shards), shards, "--shard"), "--shard"
    for variable, count, from_one in _ENGINES:
        text, many = environment.get(variable, ""), environment.get(count, "")
        if text.isdecimal() and not (from_one and int(text) == 0):  # LSF gives 0 to a job that is no array
            lowest = int(from_one)
            if count.startswith("SLURM"):
                lowest, highest = (_number(environment, f"SLURM_ARRAY_TASK_{end}") for end in ("MIN", "MAX"))
                if highest and many.isdecimal() and highest - lowest + 1 != int(many):
                    # some tasks of an array are sent again: each does its own shards
                    return _every(int(text), shards, shards, variable), variable
            return _every(int(text) - lowest, int(many) if many.isdecimal() else shards, shards, variable), variable
    return None


def _every(number: int, of: int, shards: int, who: str) -> list[int]:
    if not 0 <= number < of:
        raise UserError(f"{who}: shard {number} of {of} does not exist; numbers go from 0 to {of - 1}.")
    return list(range(number, shards, of))


def _number(environment: Mapping[str, str], variable: str) -> int:
    text = environment.get(variable, "")
    return int(text) if text.isdecimal() else 0
