"""THE table of layers: every layer of ``torch.nn`` with its options, and DropBlock; test_layers.py runs over it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from metalit.networks import DropBlock

FEATURES, WORDS = 6, 7


@dataclass(frozen=True)
class Layer:
    """One layer with its options.

    Attributes:
        make: makes it.
        shape: of one example's input, without the axis of examples.
        inputs: how many inputs of that shape it takes.
        words: whether its inputs are token ids.
        refused: part of the message with which every mapping refuses it.
        loop_only: whether vmap refuses it, and names the loop.
        compiles: whether torch.compile takes it.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (4,)
    inputs: int = 1
    words: bool = False
    refused: str | None = None
    loop_only: bool = False
    compiles: bool = True


class Host(nn.Module):
    """A network around one layer: lifts its inputs, calls the layer, and reads its outputs."""

    def __init__(self, row: Layer) -> None:
        super().__init__()
        self.row = row
        self.lift = nn.ModuleList([nn.Linear(FEATURES, prod(row.shape)) for _ in range(row.inputs)])
        self.layer = row.make()
        with torch.no_grad(), torch.random.fork_rng():
            outputs = Host.hidden(self.eval(), torch.randn(3, FEATURES)).shape[1]
        self.head = nn.Linear(outputs, 2)
        self.train()

    def hidden(self, x):
        if self.row.words:
            size = prod(self.row.shape)
            ids = (x[:, :size].abs() * 100).long() % WORDS
            return self.layer(ids.reshape(len(x), *self.row.shape)).flatten(1)
        inputs = [lift(x).reshape(len(x), *self.row.shape) for lift in self.lift]
        out = self.layer(*inputs)
        return (out[0] if isinstance(out, tuple) else out).flatten(1)

    def forward(self, x):
        return self.head(self.hidden(x))


class Function(nn.Module):
    """A layer that calls a function with its affine parameters, under a name that is not that of ``torch.nn``."""

    def __init__(self, function, size=4):
        super().__init__()
        self.function = function
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return self.function(x, self.weight, self.bias)


class Masked(nn.Module):
    """A transformer encoder with the mask of padded tokens."""

    def __init__(self, **settings):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True, **settings)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        mask = torch.zeros(x.shape[:2], dtype=torch.bool)
        mask[:, -1] = True
        return self.encoder(x, src_key_padding_mask=mask)


class SelfAttention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.need_weights = settings.pop("need_weights", True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **settings)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


class ScaledDotProduct(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.settings = settings

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, **self.settings)


class StochasticDepth(nn.Module):
    """As torchvision has it."""

    def forward(self, x):
        noise = torch.empty([x.shape[0], *[1] * (x.dim() - 1)], dtype=x.dtype).bernoulli_(0.7).div_(0.7)
        return x * noise


class DropBlock2d(nn.Module):
    """As torchvision has it: whole squares of a feature map are dropped (Ghiasi et al. 2018)."""

    def forward(self, x):
        size, side = 3, x.shape[-1]
        rate = 0.3 * side**2 / (size**2 * (side - size + 1) ** 2)
        seeds = torch.empty((*x.shape[:2], side - size + 1, side - size + 1), dtype=x.dtype).bernoulli_(rate)
        mask = 1 - F.max_pool2d(F.pad(seeds, [size // 2] * 4), size, stride=1, padding=size // 2)
        return x * mask * (mask.numel() / (1e-6 + mask.sum()))


class Checkpointed(nn.Module):
    """Computes its layer again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return checkpoint(lambda x: self.linear(x).tanh(), x, use_reentrant=False)


class Pool(nn.Module):
    """Max pooling, and back by the indices of the maxima."""

    def __init__(self, dims):
        super().__init__()
        kind = {
            1: (nn.MaxPool1d, nn.MaxUnpool1d),
            2: (nn.MaxPool2d, nn.MaxUnpool2d),
            3: (nn.MaxPool3d, nn.MaxUnpool3d),
        }
        pool, unpool = kind[dims]
        self.pool, self.unpool = pool(2, return_indices=True), unpool(2)

    def forward(self, x):
        return self.unpool(*self.pool(x))


class Bag(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 3, **settings)

    def forward(self, ids):
        return self.bag(ids)


class Offsets(nn.Module):
    """One bag of all words of all examples."""

    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 3)

    def forward(self, ids):
        return self.bag(ids.flatten(), 4 * torch.arange(len(ids)))


class Random(nn.Module):
    """Draws numbers by a function of torch."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x * self.draw(x)


IMAGE, LINE, VOLUME, TOKENS = (4, 4, 4), (4, 5), (4, 2, 2, 2), (3, 4)


ACTIVATIONS = [
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish",
    "PReLU", "ReLU", "ReLU6", "RReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh",
    "Tanhshrink", "Identity",
]  # fmt: skip


def rows() -> dict[str, Layer]:
    """Return every layer by name; a name begins with that of its class."""
    table: dict[str, Layer] = {name: Layer(getattr(nn, name)) for name in ACTIVATIONS}
    table["Hardsigmoid"] = Layer(nn.Hardsigmoid, compiles=False)
    for name in ("ReLU", "LeakyReLU", "ELU", "SiLU", "Hardtanh", "Dropout"):
        table[f"{name} inplace"] = Layer(
            lambda name=name: nn.Sequential(nn.Linear(4, 4), getattr(nn, name)(inplace=True))
        )
    table |= {
        "GELU tanh": Layer(lambda: nn.GELU("tanh")),
        "PReLU channels": Layer(lambda: nn.PReLU(4)),
        "Threshold": Layer(lambda: nn.Threshold(0.1, 0.5)),
        "GLU": Layer(nn.GLU),
        "Softmax": Layer(lambda: nn.Softmax(-1)),
        "Softmax2d": Layer(nn.Softmax2d, IMAGE),
        "Softmin": Layer(lambda: nn.Softmin(-1)),
        "LogSoftmax": Layer(lambda: nn.LogSoftmax(-1)),
        "Linear": Layer(lambda: nn.Linear(4, 3)),
        "Linear without bias": Layer(lambda: nn.Linear(4, 3, bias=False)),
        "Bilinear": Layer(lambda: nn.Bilinear(4, 4, 3), inputs=2),
        "Flatten": Layer(nn.Flatten, TOKENS),
        "Unflatten": Layer(lambda: nn.Unflatten(1, (2, 2)), compiles=False),
        "Fold": Layer(lambda: nn.Fold((3, 3), (2, 2)), (4, 4)),
        "Unfold": Layer(lambda: nn.Unfold((2, 2)), (1, 3, 3)),
        "ChannelShuffle": Layer(lambda: nn.ChannelShuffle(2), IMAGE),
        "PixelShuffle": Layer(lambda: nn.PixelShuffle(2), IMAGE),
        "PixelUnshuffle": Layer(lambda: nn.PixelUnshuffle(2), IMAGE),
        "CosineSimilarity": Layer(lambda: nn.CosineSimilarity(-1), TOKENS, inputs=2),
        "PairwiseDistance": Layer(nn.PairwiseDistance, TOKENS, inputs=2),
        "Upsample": Layer(lambda: nn.Upsample(scale_factor=2), IMAGE),
        "Upsample linear": Layer(lambda: nn.Upsample(scale_factor=2, mode="linear"), LINE),
        "Upsample bilinear": Layer(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
        "Upsample bicubic": Layer(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
        "Upsample trilinear": Layer(lambda: nn.Upsample(scale_factor=2, mode="trilinear"), VOLUME),
        "UpsamplingNearest2d": Layer(lambda: nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
        "UpsamplingBilinear2d": Layer(lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    }
    for dims, shape in ((1, LINE), (2, IMAGE), (3, VOLUME)):

        def sized(kind, *args, dims=dims, **settings):
            return lambda: getattr(nn, f"{kind}{dims}d")(*args, **settings)

        options = {
            "stride 2": {"stride": 2},
            "groups": {"groups": 2},
            "reflect": {"padding": 1, "padding_mode": "reflect"},
        }
        table[f"Conv{dims}d"] = Layer(sized("Conv", 4, 2, 2), shape)
        table[f"ConvTranspose{dims}d"] = Layer(sized("ConvTranspose", 4, 2, 2, stride=2), shape)
        for name, settings in options.items():
            table[f"Conv{dims}d {name}"] = Layer(sized("Conv", 4, 2, 2, **settings), shape)
        for kind in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"):
            table[f"{kind}{dims}d"] = Layer(sized(kind, 2), shape)
        table[f"LPPool{dims}d"] = Layer(sized("LPPool", 2, 2), shape)
        table[f"MaxUnpool{dims}d"] = Layer(lambda dims=dims: Pool(dims), shape)
        for kind in ("Reflection", "Replication", "Zero", "Circular"):
            table[f"{kind}Pad{dims}d"] = Layer(sized(f"{kind}Pad", 1), shape)
        table[f"ConstantPad{dims}d"] = Layer(sized("ConstantPad", 1, 0.5), shape)
        for norm, always in (("BatchNorm", {}), ("InstanceNorm", {"affine": True})):
            for name, settings in {
                "": {}, " batch": {"track_running_stats": False}, " running": {"track_running_stats": True},
                " without affine": {"affine": False}, " momentum": {"track_running_stats": True, "momentum": 0.3},
            }.items():  # fmt: skip
                table[f"{norm}{dims}d{name}"] = Layer(sized(norm, 4, **{**always, **settings}), shape)
        table[f"BatchNorm{dims}d cumulative"] = Layer(sized("BatchNorm", 4, momentum=None), shape, compiles=False)
        for norm in ("BatchNorm", "InstanceNorm"):
            make = sized(norm, 4, affine=True, track_running_stats=True)
            table[f"{norm}{dims}d evaluating"] = Layer(lambda make=make: Frozen(make()), shape)
        table[f"Dropout{dims}d"] = Layer(sized("Dropout", 0.3), shape)
    table["AvgPool2d options"] = Layer(
        lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), IMAGE
    )
    table["MaxPool2d options"] = Layer(lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), IMAGE)
    table |= norms() | dropouts() | attention() | embeddings() | recurrent() | wrapped()
    return table


class Frozen(nn.Module):
    """A layer that stays in evaluation mode."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        layer.running_mean.uniform_(-0.5, 0.5)
        layer.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.layer.eval()(x)


def norms() -> dict[str, Layer]:
    """Return every norm by every name that it can be called by."""
    table = {
        "LayerNorm": Layer(lambda: nn.LayerNorm(4), TOKENS),
        "LayerNorm without bias": Layer(lambda: nn.LayerNorm(4, bias=False), TOKENS),
        "LayerNorm without affine": Layer(lambda: nn.LayerNorm(4, elementwise_affine=False), TOKENS),
        "LayerNorm two axes": Layer(lambda: nn.LayerNorm(TOKENS), TOKENS),
        "RMSNorm": Layer(lambda: nn.RMSNorm(4), TOKENS),
        "RMSNorm without affine": Layer(lambda: nn.RMSNorm(4, elementwise_affine=False), TOKENS),
        "GroupNorm": Layer(lambda: nn.GroupNorm(2, 4), IMAGE),
        "GroupNorm without affine": Layer(lambda: nn.GroupNorm(2, 4, affine=False), IMAGE),
        "LocalResponseNorm": Layer(lambda: nn.LocalResponseNorm(2), IMAGE),
        "CrossMapLRN2d": Layer(lambda: nn.CrossMapLRN2d(2), IMAGE, refused="support automatic differentiation"),
    }
    size, eps = [4], 1e-5
    layer_norms = {
        "F.layer_norm": lambda x, w, b: F.layer_norm(x, size, w, b),
        "torch.layer_norm": lambda x, w, b: torch.layer_norm(x, size, w, b),
        "torch.native_layer_norm": lambda x, w, b: torch.native_layer_norm(x, size, w, b, eps)[0],
        "aten.layer_norm": lambda x, w, b: torch.ops.aten.layer_norm(x, size, w, b, eps),
        "aten.native_layer_norm": lambda x, w, b: torch.ops.aten.native_layer_norm(x, size, w, b, eps)[0],
        "F.rms_norm": lambda x, w, b: F.rms_norm(x, size, w) + b,
        "torch.rms_norm": lambda x, w, b: torch.rms_norm(x, size, w) + b,
    }
    of_channels = {
        "F.batch_norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        "torch.batch_norm": lambda x, w, b: torch.batch_norm(x, w, b, None, None, True, 0.1, eps, False),
        "torch.native_batch_norm": lambda x, w, b: torch.native_batch_norm(x, w, b, None, None, True, 0.1, eps)[0],
        "aten.batch_norm": lambda x, w, b: torch.ops.aten.batch_norm(x, w, b, None, None, True, 0.1, eps, False),
        "F.instance_norm": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        "torch.instance_norm": lambda x, w, b: torch.instance_norm(x, w, b, None, None, True, 0.1, eps, False),
        "aten.instance_norm": lambda x, w, b: torch.ops.aten.instance_norm(x, w, b, None, None, True, 0.1, eps, False),
        "F.group_norm": lambda x, w, b: F.group_norm(x, 2, w, b),
        "torch.group_norm": lambda x, w, b: torch.group_norm(x, 2, w, b),
        "aten.group_norm": lambda x, w, b: torch.ops.aten.group_norm(x, 2, w, b),
        "torch.native_group_norm": lambda x, w, b: torch.native_group_norm(x, w, b, *x.shape[:2], 16, 2, eps)[0],
    }
    for functions, shape in ((layer_norms, TOKENS), (of_channels, IMAGE)):
        for name, function in functions.items():
            table[name] = Layer(lambda function=function: Function(function), shape)
    return table


def dropouts() -> dict[str, Layer]:
    """Return whatever is random."""
    table = {
        "Dropout": Layer(lambda: nn.Dropout(0.3)),
        "AlphaDropout": Layer(lambda: nn.AlphaDropout(0.3)),
        "FeatureAlphaDropout": Layer(lambda: nn.FeatureAlphaDropout(0.3), IMAGE),
        "StochasticDepth": Layer(StochasticDepth),
        "DropBlock2d": Layer(DropBlock2d, IMAGE),
        "DropBlock": Layer(lambda: DropBlock(0.3, 2), IMAGE),
        "FractionalMaxPool2d": Layer(
            lambda: nn.FractionalMaxPool2d(2, output_size=2), IMAGE, refused="fractional_max_pool2d"
        ),
        "FractionalMaxPool3d": Layer(
            lambda: nn.FractionalMaxPool3d(1, output_size=1), VOLUME, refused="fractional_max_pool3d"
        ),
    }
    keyed = {
        "torch.rand": lambda x: torch.rand(x.shape, dtype=x.dtype),
        "torch.rand of numbers": lambda x: torch.rand(*x.shape, dtype=x.dtype),
        "torch.randn": lambda x: torch.randn(x.shape, dtype=x.dtype),
        "torch.bernoulli": lambda x: torch.bernoulli(x.detach().sigmoid()),
        "Tensor.bernoulli": lambda x: x.detach().sigmoid().bernoulli(),
        "Tensor.bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.6),
        "Tensor.bernoulli_ of new_empty": lambda x: x.new_empty(x.shape[0], 1).bernoulli_(0.6),
        "Tensor.uniform_": lambda x: torch.empty_like(x).uniform_(-1, 2),
        "Tensor.normal_": lambda x: torch.empty_like(x).normal_(1, 2),
        "Tensor.exponential_": lambda x: torch.empty_like(x).exponential_(),
        "torch.randperm": lambda x: torch.randperm(x.shape[0]).unsqueeze(1) + 1,
        "torch.dropout": lambda x: torch.dropout(torch.ones_like(x), 0.3, True),
        "torch.native_dropout": lambda x: torch.native_dropout(torch.ones_like(x), 0.3, True)[0],
        "torch.alpha_dropout": lambda x: torch.alpha_dropout(torch.ones_like(x), 0.3, True),
    }
    table |= {name: Layer(lambda draw=draw: Random(draw)) for name, draw in keyed.items()}
    # the compiler lets no mode see these
    unseen = {"torch.rand_like": torch.rand_like, "torch.randn_like": torch.randn_like}
    table |= {name: Layer(lambda draw=draw: Random(draw), compiles=False) for name, draw in unseen.items()}
    refused = {
        "torch.randint": lambda x: torch.randint(1, 3, x.shape),
        "torch.multinomial": lambda x: torch.multinomial(x.detach().sigmoid(), 1),
        "torch.normal": lambda x: torch.normal(x.detach(), 1.0),
        "torch.poisson": lambda x: torch.poisson(x.detach().sigmoid()),
        "Tensor.geometric_": lambda x: torch.empty_like(x).geometric_(0.5),
        "F.gumbel_softmax": lambda x: F.gumbel_softmax(x),
    }
    table |= {name: Layer(lambda draw=draw: Random(draw), refused=name) for name, draw in refused.items()}
    return table


def attention() -> dict[str, Layer]:
    """Return attention and transformers."""

    def layer(kind=nn.TransformerEncoderLayer, **settings):
        return lambda: kind(4, 2, 4, batch_first=True, **settings)

    return {
        "MultiheadAttention": Layer(SelfAttention, TOKENS),
        "MultiheadAttention without weights": Layer(lambda: SelfAttention(need_weights=False), TOKENS),
        "MultiheadAttention dropout": Layer(lambda: SelfAttention(dropout=0.3), TOKENS, compiles=False),
        "MultiheadAttention dropout without weights": Layer(
            lambda: SelfAttention(dropout=0.3, need_weights=False), TOKENS, compiles=False
        ),
        "MultiheadAttention options": Layer(
            lambda: SelfAttention(bias=False, add_bias_kv=True, add_zero_attn=True, kdim=4, vdim=4), TOKENS
        ),
        "F.scaled_dot_product_attention": Layer(ScaledDotProduct, TOKENS),
        "F.scaled_dot_product_attention causal": Layer(lambda: ScaledDotProduct(is_causal=True), TOKENS),
        "F.scaled_dot_product_attention dropout": Layer(lambda: ScaledDotProduct(dropout_p=0.3), TOKENS),
        "TransformerEncoderLayer": Layer(layer(dropout=0.0), TOKENS),
        "TransformerEncoderLayer dropout": Layer(layer(), TOKENS, compiles=False),
        "TransformerEncoderLayer norm first": Layer(layer(dropout=0.0, norm_first=True, activation="gelu"), TOKENS),
        "TransformerEncoder": Layer(Masked, TOKENS, compiles=False),
        "TransformerDecoderLayer": Layer(layer(nn.TransformerDecoderLayer), TOKENS, inputs=2, compiles=False),
        "TransformerDecoder": Layer(
            lambda: nn.TransformerDecoder(layer(nn.TransformerDecoderLayer)(), 1),
            TOKENS,
            inputs=2,
            compiles=False,
        ),
        "Transformer": Layer(lambda: nn.Transformer(4, 2, 1, 1, 4, batch_first=True), TOKENS, inputs=2, compiles=False),
    }


def embeddings() -> dict[str, Layer]:
    """Return what reads token ids."""

    def row(**settings):
        return lambda: nn.Embedding(WORDS, 3, **settings)

    def words(make, **settings):
        return Layer(make, (4,), words=True, **settings)

    return {
        "Embedding": words(row()),
        "Embedding padding": words(row(padding_idx=0)),
        "Embedding last padding": words(row(padding_idx=-1)),
        "Embedding by frequency": words(row(scale_grad_by_freq=True)),
        "Embedding by frequency with padding": words(row(scale_grad_by_freq=True, padding_idx=0)),
        "Embedding sparse": words(row(sparse=True)),
        "Embedding max_norm": words(row(max_norm=1.0), refused="max_norm"),
        "EmbeddingBag": words(lambda: Bag(mode="mean")),
        "EmbeddingBag padding": words(lambda: Bag(mode="mean", padding_idx=0)),
        "EmbeddingBag max padding": words(lambda: Bag(mode="max", padding_idx=0)),
        "EmbeddingBag offsets": words(Offsets, refused="offsets"),
        "EmbeddingBag sum": words(lambda: Bag(mode="sum")),
        "EmbeddingBag max": words(lambda: Bag(mode="max")),
    }


def recurrent() -> dict[str, Layer]:
    """Return recurrent layers."""
    sequences = {
        name: Layer(lambda name=name: getattr(nn, name)(4, 3, batch_first=True), TOKENS, loop_only=True)
        for name in ("RNN", "LSTM", "GRU")
    }
    cells = {
        name: Layer(lambda name=name: getattr(nn, name)(4, 3), loop_only=True)
        for name in ("RNNCell", "LSTMCell", "GRUCell")
    }
    return sequences | cells


def wrapped() -> dict[str, Layer]:
    """Return layers with a parametrisation, a hook, or Python in between."""

    def spectral():
        return parametrizations.spectral_norm(nn.Linear(4, 4))

    def hooked():
        layer = nn.LayerNorm(4)
        layer.register_forward_hook(lambda module, inputs, output: 2 * output)
        return layer

    return {
        "weight_norm": Layer(lambda: parametrizations.weight_norm(nn.Linear(4, 4))),
        "orthogonal": Layer(lambda: parametrizations.orthogonal(nn.Linear(4, 4))),
        "spectral_norm": Layer(spectral, refused="writes into its buffer"),
        "hook": Layer(hooked, TOKENS),
        "checkpoint": Layer(Checkpointed, refused="saved tensor hooks"),
        "Sequential": Layer(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU())),
    }


def layer_classes() -> set[str]:
    """Return the names of all modules in ``torch.nn``."""
    return {name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
