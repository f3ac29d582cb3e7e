from pathlib import Path

import pytest

from tests.workflows.small_project import Project, copied, write_project


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = write_project(tmp_path_factory.mktemp("trained once") / "project")
    project.train(project.run)
    for path in (project.run / "checkpoints").iterdir():  # large, and a finished run needs none
        path.unlink()
    return project


@pytest.fixture
def project(trained_once: Project, tmp_path: Path) -> Project:
    return copied(trained_once, tmp_path / "project")


@pytest.fixture(scope="module")
def untouched(trained_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with a link to the photos, for tests after which all is as it was."""
    project = copied(trained_once, tmp_path_factory.mktemp("untouched") / "project")
    (project.path / "link").symlink_to("photos")
    return project
