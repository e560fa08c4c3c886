"""Embeddings of a whole data set by a frozen network, computed once and kept on disk."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from tqdm import tqdm

from metalit.data.cache import cached_arrays
from metalit.data.store import ClassStore
from metalit.errors import SettingError, UserError
from metalit.functional.batches import by_batches
from metalit.functional.examples import count, to_unit_interval
from metalit.locks import lock_while_open
from metalit.networks import PretrainedNetwork
from metalit.networks.partly_trained import PartlyTrained, settings_of_parts
from metalit.networks.pretrained.weights import tensors_sha256

FeaturesDtype = Literal["float32", "float16"]
VERSION = "features 2"  # of the computation; a new one invalidates older caches
BATCH = 64  # examples computed at once
TEXTS = 16 * BATCH  # texts sorted by length at once
PROBED = 4  # examples by which the network is checked
OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # attributes that say nothing, such as ``training``
CLOSE = 1e-3  # relative difference of embeddings that counts as rounding


class FrozenFeatures:
    """A frozen network as a function from images or texts to embeddings, with a cache for those of a whole data set.

    Args:
        network: from images ``[n, channels, height, width]`` in [0, 1], or from ``Tokens`` ``[n, T]``, to embeddings
            ``[n, D]``. Nothing in it requires a gradient.
        dtype: of the stored embeddings; ``float16`` takes half the space and keeps three digits.

    Raises:
        SettingError: the network has trained parameters, or batch norms that use the statistics of the batch.
    """

    def __init__(self, network: nn.Module, dtype: FeaturesDtype = "float32") -> None:
        self.network, self.dtype = refuse_unfrozen(network).eval(), dtype
        self.numbers = {"float32": torch.float32, "float16": torch.float16}[dtype]

    @torch.no_grad()
    def embed(self, examples: Any) -> Tensor:
        """Return embeddings ``[n, D]`` in the stored dtype, on the examples' device.

        Args:
            examples: images ``[n, channels, height, width]``, uint8 or in [0, 1]; or texts, ``Tokens`` ``[n, T]``.

        Raises:
            UserError: the network does not take such examples, or an embedding is not finite.
        """
        self.network.to(tree_leaves(examples)[0].device)
        return by_batches(self._embedded, examples, BATCH)

    def store(self, examples: ClassStore, split: str, folder: Path, device: torch.device) -> ClassStore:
        """Return a store of the embeddings ``[examples, D]`` of another, from the cache if they are there.

        Args:
            examples: the store of a split, of images ``[examples, channels, height, width]`` or of texts.
            split: its name, for the progress bar.
            folder: where the cache is kept.
            device: where embeddings are computed; the store stays in host memory.

        Raises:
            UserError: as ``embed``; or a single image and a batch of them give different embeddings.
        """
        begun, computed = time.monotonic(), False

        def build() -> dict[str, Any]:
            nonlocal computed
            computed = True
            return {"features": self._all(examples, split, device).numpy()}

        key = self.key(examples)
        path = folder / f"features-{split}-{key[:16]}.npz"
        with one_at_a_time(path):
            found = torch.from_numpy(cached_arrays(path, key, build)["features"])
        rank_zero_info(
            f"features of {split}: cache {'miss' if computed else 'hit'}, {len(found)} {noun(examples)}s x "
            f"{found.shape[1]} {self.dtype} "
            f"in {time.monotonic() - begun:.1f} s ({path})"
        )
        return replace(examples, items=found)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the network's tensors, by which a checkpoint knows it."""
        return tensors_sha256(self.network)

    def check_is(self, digest: str) -> None:
        """Refuse a checkpoint whose learner was trained on the embeddings of another network.

        Raises:
            UserError: its digest differs.
        """
        if digest != self.digest:
            raise UserError(
                "data.features: the network differs from that of the training, so its embeddings mean nothing to the "
                "learner: its file of weights has changed, or it has none and is made at random"
            )

    def key(self, examples: ClassStore) -> str:
        """Return a digest of all that the embeddings depend on: network, preprocessing, examples and dtype.

        Texts count as token ids, so another tokenizer or another text gives another key.
        """
        parts = [VERSION, self.dtype, network_sha256(self.network), examples_sha256(examples)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a result."""
        own = settings_of_parts(self.network.modules())
        if not isinstance(self.network, PartlyTrained):
            kind = type(self.network)
            own |= {
                "backbone": f"{kind.__module__}.{kind.__qualname__}",
                "backbone_weights": f"sha256 of the tensors {tensors_sha256(self.network)}",
            }
        return {"features": self.dtype, **own}

    def _embedded(self, examples: Any) -> Tensor:
        number = next((each.dtype for each in self.network.parameters()), torch.get_default_dtype())
        name = type(self.network).__name__
        try:
            found = self.network(to_unit_interval(examples, number))
        except (RuntimeError, IndexError, TypeError, AttributeError) as error:  # for shapes and kinds that do not fit
            raise UserError(
                f"data.features: {name} does not take {described(examples)}: {str(error).splitlines()[0]}"
            ) from error
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != count(examples):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"data.features: {name} returns {shape}, expected embeddings [n, D]")
        found = found.to(self.numbers)
        if not found.isfinite().all():
            remedy = ": give data.features_dtype: float32" if self.numbers == torch.float16 else ""
            raise UserError(f"data.features: an embedding is not finite in {self.dtype}{remedy}")
        return found

    @torch.no_grad()
    def _all(self, examples: ClassStore, split: str, device: torch.device) -> Tensor:
        self.network.to(device)
        total = int(examples.class_sizes.sum())
        self._check_independent(moved(examples.take(torch.arange(min(PROBED, total))), device))
        found, kind = [], noun(examples)
        with tqdm(total=total, unit=kind, desc=f"features of {split}", disable=None) as bar:
            for rows in torch.split(torch.arange(total), BATCH if kind == "image" else TEXTS):
                found.append(self.embed(moved(examples.take(rows), device)).cpu())
                bar.update(len(rows))
        self.network.cpu()  # the accelerator's memory is for what follows
        return torch.cat(found)

    def _check_independent(self, examples: Any) -> None:
        together, again = self._embedded(examples), self._embedded(examples)
        alone = by_batches(self._embedded, examples, 1)
        kind = "image" if isinstance(examples, Tensor) else "text"
        for other, which in ((again, f"twice the same {kind}s"), (alone, f"one {kind} alone and among others")):
            difference = (together - other).abs().max().item()
            if difference > CLOSE * max(together.abs().max().item(), torch.finfo(self.numbers).tiny):
                raise UserError(
                    f"data.features: {type(self.network).__name__} gives {which} different embeddings, which cannot "
                    "be computed once for all: it draws random numbers or uses the statistics of the batch"
                )


def refuse_unfrozen(network: nn.Module) -> nn.Module:
    """Return a network, refused if what it computes may change."""
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if trained:
        raise SettingError(
            "data.features",
            type(network).__name__,
            f"a frozen network, such as networks.Backbone with trained: none; {trained[0]} is trained: give such a "
            "network as model.network instead",
        )
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise SettingError(
                "data.features",
                type(network).__name__,
                f"a network whose batch norms have running statistics; {name} uses those of the batch, so an embedding "
                "would depend on the other examples",
            )
    return network


def network_sha256(network: nn.Module) -> str:
    """Return a digest of a network: its tensors, its modules with their numbers, and where it comes from."""
    source = network.source() if isinstance(network, PretrainedNetwork) else {}
    modules = [
        (name, type(module).__module__, type(module).__qualname__, plain(vars(module)))
        for name, module in network.named_modules()
    ]
    # an object without a form of its own is shown by its address, which differs in each process
    shown = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    described = json.dumps([source, modules, shown], sort_keys=True)
    return hashlib.sha256(f"{described}\n{tensors_sha256(network)}".encode()).hexdigest()


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a module's attributes say in a form that is the same in each process, such as its number of heads.

    Numbers, words, functions by their names, tensors that are no buffers by their digest, and containers of these.
    """
    own = {name: value for name, value in attributes.items() if name not in OF_EVERY_MODULE}
    return {name: shown for name, value in own.items() if (shown := said(value)) is not None}


def said(value: Any) -> Any:
    """Return a value as JSON can hold it; None for what has no form of its own."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        return f"{value.dtype} {list(value.shape)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, partial):
        return [said(value.func), said(value.args), said(value.keywords)]
    if isinstance(value, tuple | list):
        return [said(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): said(each) for key, each in value.items()}
    name = getattr(value, "__qualname__", None)
    return None if name is None else f"{value.__module__}.{name}"


def examples_sha256(examples: ClassStore) -> str:
    """Return a digest of all examples of a store, in order."""
    digest = hashlib.sha256(json.dumps(examples.class_sizes.tolist()).encode())
    for rows in torch.split(torch.arange(int(examples.class_sizes.sum())), 16 * BATCH):
        for leaf in tree_leaves(examples.take(rows)):
            part = leaf.cpu().contiguous()
            digest.update(f"{part.dtype} {list(part.shape)}".encode())
            digest.update(part.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def noun(examples: ClassStore) -> str:
    """Return what the examples of a store are, ``text`` or ``image``."""
    return "image" if isinstance(examples.take(torch.zeros(1, dtype=torch.int64)), Tensor) else "text"


def described(examples: Any) -> str:
    """Return kind and shape of examples in words."""
    kind = "images" if isinstance(examples, Tensor) else "texts"
    return f"{kind} {list(tree_leaves(examples)[0].shape)}"


def moved(examples: Any, device: torch.device) -> Any:
    """Return examples on a device."""
    return tree_map(lambda leaf: leaf.to(device), examples)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process compute what another may be computing; the second then finds it in the cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError:  # a folder that cannot be written: everybody computes
        yield
        return
    with lock:
        wait_for(lambda: lock_while_open(lock))
        yield


def wait_for(lock: Callable[[], None], pause: float = 0.2) -> None:
    """Call ``lock`` until it succeeds; return at once where there are no locks."""
    while True:
        try:
            return lock()
        except BlockingIOError:
            time.sleep(pause)
        except OSError:
            return None
