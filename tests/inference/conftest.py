"""A run to use: prototypical networks on Glyphs, trained for two steps."""

import pytest

from commands import changed, protonet, write_yaml
from metalit.main import main


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with three ways."""
    folder = tmp_path_factory.mktemp("inference") / "run"
    folder.mkdir()
    config = write_yaml(folder.parent / "c.yaml", changed(protonet(), {"data.init_args.ways": 3}))
    main(["fit", "--config", config, "--run_dir", str(folder)])
    return folder
