"""The vocabulary of a training, which its checkpoint keeps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metalit.data.texts.tokenizer import Tokenizer
from metalit.errors import UserError
from metalit.networks.texts.tokenizer_files import states_in


class Vocabulary:
    """A tokenizer with the vocabulary of the training: that of a checkpoint, or else that of these training texts.

    Args:
        tokenizer: the tokenizer as it is given, perhaps without a vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.given = tokenizer
        self._fitted = None if tokenizer.needs_fit else tokenizer

    def fitted(self, training_texts: Callable[[], Sequence[str]]) -> Tokenizer:
        """Return the tokenizer, fitted to the training texts if it needs that and no checkpoint has brought its own.

        Raises:
            UserError: there are no training texts.
        """
        if self._fitted is None:
            texts = training_texts()
            if not texts:
                raise UserError(
                    f"{type(self.given).__name__} takes its vocabulary from training classes, and these data have none:"
                    " test a checkpoint, whose vocabulary is then used, or give data.tokenizer: HashedWords, which "
                    "needs none"
                )
            self._fitted = self.given.fit(texts)
        return self._fitted

    def take_over(self, checkpoint: Mapping[str, Any]) -> bool:
        """Use the vocabulary of a training on these or other data; return whether that changes the ids.

        Args:
            checkpoint: the whole checkpoint.

        Raises:
            UserError: the training had another tokenizer.
        """
        states = states_in(checkpoint)
        if not states or (self._fitted is not None and self._fitted.digest == states[0]["digest"]):
            return False
        self._fitted = self.given.restored(states[0])
        return True
