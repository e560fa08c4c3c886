"""FEAT, few-shot embedding adaptation with transformer (Ye et al. 2020, https://arxiv.org/abs/1812.03664), section 4.

1  train network f as an ordinary classifier, and start from it                 (Baseline; ``pretrained``)
2  sample a task and embed it                                                   (data module, network)
3  the class means c_k attend to one another:  c'_k = T({c_1, ..., c_N})_k      (SetAttention)
4  logits of a query q:  -|f(q) - c'_k|^2 / temperature                         (AdaptedClassMeans)
5  contrast:  apply T to all examples of each class, support and queries, take the class means of the result, and
classify the embeddings before T by  -|f(x) - mean_k|^2 / contrast_temperature
6  minimise the cross-entropy of line 4 + contrast_weight times that of line 5
"""

from typing import Any

from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.errors import not_negative, positive
from metalit.functional.distances import class_means, squared_euclidean
from metalit.functional.losses import task_loss
from metalit.functional.masks import mask_of, together
from metalit.heads import AdaptedClassMeans, SquaredEuclidean
from metalit.networks.embedding_length import embedding_length
from metalit.networks.set_attention import SetAttention
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope


class FEAT(MetricMetaLearner):
    """Adapts the class means of a task to one another by self-attention.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``; give its initial weights as ``pretrained``.
        temperature: temperature of the logits of line 4, > 0.
        contrast_temperature: temperature of the logits of line 5, > 0.
        contrast_weight: weight of the loss of line 5, >= 0.
        heads: number of attention heads, >= 1.
        dropout: dropout probability of the attention's output, in [0, 1).
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, or D is not known.
    """

    def __init__(
        self,
        network: nn.Module,
        temperature: float = 64.0,
        contrast_temperature: float = 16.0,
        contrast_weight: float = 1.0,
        heads: int = 1,
        dropout: float = 0.5,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        similarity = SquaredEuclidean(1 / positive("temperature", temperature))
        head = AdaptedClassMeans(SetAttention(length, heads, dropout), similarity)
        super().__init__(network, head, **learner)
        self.contrast_temperature = positive("contrast_temperature", contrast_temperature)
        self.contrast_weight = not_negative("contrast_weight", contrast_weight)

    def penalties(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Params:
        """Return the weighted contrastive loss of line 5."""
        examples = together(support, query)
        real = mask_of(examples)
        own_class = examples.y.unsqueeze(0) == examples.y.unsqueeze(1)
        # padding attends to padding: attention to nothing at all is not a number
        own_class = own_class & (real.unsqueeze(0) == real.unsqueeze(1))
        # the mask turns one attention per class into a single call for all classes
        adapted = self.adapted(meta, examples.x, own_class)
        distances = squared_euclidean(examples.x, class_means(adapted, examples.y, ways, examples.mask))
        contrast = task_loss(-distances / self.contrast_temperature, examples.y, examples.mask)
        return {"contrast": self.contrast_weight * contrast}

    def adapted(self, meta: Params, x: Tensor, mask: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` after each has attended to those allowed by a mask ``[n, n]``."""
        attention = self.head.get_submodule("adaptation")
        return functional_call(attention, scope(meta, "head.adaptation"), (x, mask))  # type: ignore[no-any-return]
