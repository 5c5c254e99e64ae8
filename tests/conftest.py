from __future__ import annotations

from pathlib import Path

import phantom
import pytest
import torch

from phantomseg.synth.templates import Templates, load_templates

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def template_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    phantom.save(folder / "one.nii.gz", phantom.head())
    phantom.save(folder / "two.nii.gz", phantom.head((44, 50, 42)))
    return folder


@pytest.fixture(scope="session")
def templates(template_folder: Path) -> Templates:
    return load_templates(template_folder)
