"""Refusing quantised weights, which have no gradient and no sum with an update."""

from torch import nn

from metalit.errors import SettingError

QUANTISED = (
    "torch.ao.nn", "torch.nn.quantized", "torch.nn.intrinsic.quantized", "torchao", "bitsandbytes", "auto_gptq",
    "gptqmodel", "awq", "hqq", "quanto", "optimum.quanto", "eetq", "aqlm", "fbgemm_gpu",
)  # fmt: skip


def refuse_quantised(network: nn.Module) -> None:
    """Refuse a network with quantised weights.

    Raises:
        SettingError: a parameter holds no floating-point numbers, or is a tensor of another library, or a module is one
            of a library for quantisation.
    """
    expected = "a network with weights in floating point; {}: load the model without quantisation"
    for name, module in network.named_modules():
        if type(module).__module__.startswith(QUANTISED):
            kind = f"{type(module).__module__.partition('.')[0]}'s {type(module).__name__}"
            raise SettingError("network", type(network).__name__, expected.format(f"{name} is {kind}"))
    for name, parameter in network.named_parameters():
        # libraries for quantisation keep packed numbers in parameters of a class of their own
        if type(parameter) is not nn.Parameter or not parameter.is_floating_point():
            found = f"{name} is a {type(parameter).__name__} of {str(parameter.dtype).removeprefix('torch.')}"
            raise SettingError("network", type(network).__name__, expected.format(found))
