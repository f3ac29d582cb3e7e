import shutil
from pathlib import Path

import pytest

from tests.workflows.small_project import Project, write_project


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = write_project(tmp_path_factory.mktemp("trained once") / "project")
    project.train(project.run)
    return project


@pytest.fixture
def project(trained_once: Project, tmp_path: Path) -> Project:
    """A copy of the trained project; its run reads the copy."""
    shutil.copytree(trained_once.path, tmp_path / "project")
    recipe = tmp_path / "project" / "run" / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace(str(trained_once.path), str(tmp_path / "project"))
    recipe.write_text(text, encoding="utf-8")
    return Project(tmp_path / "project")
