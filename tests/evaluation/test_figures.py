"""Each run gets the figures that fit it."""

import sys

import matplotlib.image
import pytest
from lightning.pytorch.loggers import CSVLogger

from metalit.evaluation import Figures


def test_figures_of_a_regression_run(make_trainer, regression, tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(Figures(tasks=2, dpi=50), logger=logger)
    trainer.fit(*regression)
    trainer.test(*regression, verbose=False)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"learning_curves", "adaptation", "adaptation_curve"}
    for name in drawn:
        pixels = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert pixels[..., :3].std() > 0.05  # not an empty sheet


def test_figures_of_an_image_run_without_steps(make_trainer, images, tmp_path):
    trainer = make_trainer(Figures(dpi=50))
    trainer.fit(*images)
    trainer.test(*images, verbose=False)
    assert {path.name for path in tmp_path.glob("*")} == {"episode.png"}


def test_figures_follow_the_precision_of_the_run(make_trainer, regression, tmp_path):
    make_trainer(Figures(dpi=50), precision="64-true").test(*regression, verbose=False)
    assert (tmp_path / "adaptation.png").exists()


def test_drawing_leaves_pyplot_alone(make_trainer, regression):
    make_trainer(Figures(dpi=50)).test(*regression, verbose=False)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_trial_run_draws_nothing(make_trainer, regression, tmp_path):
    trainer = make_trainer(Figures(), fast_dev_run=True)
    trainer.fit(*regression)
    trainer.test(*regression, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"tasks": 0}, {"dpi": 0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is 0"):
        Figures(**wrong)
