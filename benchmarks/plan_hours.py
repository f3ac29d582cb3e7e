"""How far the step that a plan's hours rest on is from a whole step, as a Markdown table.

    python benchmarks/plan_hours.py bmp-voc12-mit_b1 supervised-voc12-pspnet

`tagseg reproduce TABLE --dry-run` measures a large network's step on a CPU at a part of its crop and batch. Here the whole step
is measured beside it, with random weights on random pictures. It needs the memory of the whole step.
"""

from __future__ import annotations

import argparse

from tagseg.recipe import load_recipe
from tagseg.reproduce.cost import measure, step_seconds
from tagseg.workflows.train import machine


def main() -> None:
    """Measure every recipe both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--classes", type=int, default=20, help="without background")
    given = parser.parse_args()
    print("| recipe | batch and crop | s a step, plan | s a step, whole | plan / whole |\n|---|---|---:|---:|---:|")
    for name in given.recipes:
        recipe = load_recipe(name)
        plan, whole = step_seconds(recipe, given.classes, "cpu"), measure(recipe, given.classes).step
        size = f"{recipe.train.batch_size} of {recipe.train.crop}"
        print(f"| {name} | {size} | {plan:.2f} | {whole:.2f} | {plan / whole:.2f} |", flush=True)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
