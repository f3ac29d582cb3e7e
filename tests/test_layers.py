"""Nothing imports what stands above it: the floors of docs/architecture.md, held by a test."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "tagseg"

# From the ground up: a room may import those before it. Files on the package's own floor are rooms of one file.
FLOORS = [
    "errors allocator names distributed footprint interrupt mask_values progress quoting resize scores seeded",
    "alone cores extras files foreign places threads web",
    "settings devices precision weights shipped made_from result_folder run_folder",
    "data outputs",
    "losses backbones decoders refine cues",
    "methods datasets engine",
    "prediction recipe segmenter",
    "review scale reproduce",
    "workflows",
    "reference api serve",
    "cli",
    "__main__",
]
ROOMS = [name for floor in FLOORS for name in floor.split()]

FREE = {"__version__"}  # of the package itself


def imports(file: Path) -> set[str]:
    """The rooms that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module == "tagseg":
            names = [f"tagseg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("tagseg.")}
    return found - FREE


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]


def test_every_room_stands_on_a_floor() -> None:
    assert {room(file) for file in FILES} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def test_nothing_imports_what_stands_above_it() -> None:
    upward = set()
    for file in FILES:
        own = ROOMS.index(room(file))
        upward |= {
            (file.relative_to(PACKAGE).as_posix(), other)
            for other in imports(file)
            if other in ROOMS and ROOMS.index(other) > own
        }
    assert not upward


def test_no_circle_of_files_within_a_room() -> None:
    """Files of a room import each other in one direction, where they do so at import time."""
    inside: dict[str, set[str]] = defaultdict(set)
    for file in FILES:
        name = ".".join(("tagseg", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:  # not below `if TYPE_CHECKING` and not in functions
            own = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] == name.split(".")[:2]
            if own and node.module != name:
                inside[name].add(node.module)

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        nexts = inside[start] - seen
        return goal in nexts or any(reaches(each, goal, seen | nexts) for each in nexts)

    circles = [name for name in list(inside) if reaches(name, name, set())]
    assert not circles


@pytest.mark.parametrize("name", ["architecture.md"])
def test_the_page_names_every_room(name: str) -> None:
    text = (PACKAGE.parents[1] / "docs" / name).read_text(encoding="utf-8")
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert not {folder for folder in folders if f"`{folder}/`" not in text}
