"""A trained learner put to use: the user's own classes, photos and texts in, names and probabilities out.

The rule of this room: it learns from the user's labelled examples by ``adapt`` alone and trains nothing; it knows no
command line and no scikit-learn, except for the one file that is a scikit-learn estimator.
"""

from metalit.inference.recogniser import Recogniser, TrainedModel
from metalit.inference.saved import load_recogniser, save_recogniser

__all__ = ["Recogniser", "TrainedModel", "load_recogniser", "save_recogniser"]
