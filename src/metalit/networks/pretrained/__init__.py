"""Networks with weights from elsewhere: their files, their preprocessing, and which of their parts are trained.

The rule here: images in [0, 1] come in, what the weights were trained on is known here alone, and a frozen part never
changes. Encoders of texts (``networks.texts``) share the base class alone.
"""

from metalit.networks.pretrained.backbone import Backbone
from metalit.networks.pretrained.base import PretrainedNetwork
from metalit.networks.pretrained.images import PretrainedImageNetwork
from metalit.networks.pretrained.named import Pretrained

__all__ = ["Backbone", "Pretrained", "PretrainedImageNetwork", "PretrainedNetwork"]
