from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lively
import phantom
import pytest
import torch

from phantomseg.network.model import Model, load_model
from phantomseg.synth.templates import Templates, load_templates

torch.set_num_threads(1)  # two workers run the tests


@pytest.fixture
def same_threads() -> Iterator[None]:
    """As many threads afterwards as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(same_threads: None) -> None:
    """Volumes this small are slower on several."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def template_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    phantom.save(folder / "one.nii.gz", phantom.head())
    phantom.save(folder / "two.nii.gz", phantom.head((44, 50, 42)))
    return folder


@pytest.fixture(scope="session")
def templates(template_folder: Path) -> Templates:
    return load_templates(template_folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose labels depend on the scan."""
    return lively.model(tmp_path_factory.mktemp("model") / "lively")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    return load_model(model_folder)
