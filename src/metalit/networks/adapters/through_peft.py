"""Adapters of the library peft."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from metalit.errors import SettingError
from metalit.networks.adapters.base import AdaptedNetwork

INSTALL = "pip install 'metalit[text]'"


class Peft(AdaptedNetwork):
    """A frozen network with adapters of the library peft: LoRA in all its variants, IA3, LoHa and others.

    peft names what it adds: ``lora_A.default.weight`` and ``lora_B.default.weight`` of LoRA match
    ``adapted: ["*lora_*"]``, ``ia3_l.default`` of IA3 ``["*ia3_*"]``. In the state dict a layer's own tensors are
    ``network.<layer>.base_layer.weight``. Meta-gradients are taken inside ``vmap``, which is right for peft's layers.

    Args:
        network: any network that peft can change; it is changed in place.
        config: name of a configuration of peft, such as ``LoraConfig`` or ``IA3Config``.
        options: its arguments, such as ``{r: 8, lora_alpha: 16, target_modules: [query, value]}``.
        trained: shell-style patterns of further parameters of the network that stay trained, by the names that they
            have without adapters.

    Raises:
        ImportError: peft is not installed.
        SettingError: there is no such configuration, it does not take the options or does not fit the network, or the
            weights are quantised.
        UserError: a pattern of ``trained`` matches no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        config: str = "LoraConfig",
        options: dict[str, Any] | None = None,
        trained: Sequence[str] = (),
    ) -> None:
        given = dict(options or {})
        super().__init__(network, trained, partial(inject, config=made(config, given), options=given))
        self.config, self.options = config, given

    def setting(self) -> dict[str, Any]:
        """Return configuration and options."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return {
            "peft": f"{self.config}({options})",
            "peft_trained": list(self.trained),
            "peft_parameters": self.trained_share(),
        }


def made(name: str, options: dict[str, Any]) -> Any:
    """Return a configuration of peft, given by its name.

    Raises:
        ImportError: peft is not installed.
        SettingError: there is none of this name, or it does not take the options.
    """
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise ImportError(f"networks.Peft needs peft, which is not installed: {INSTALL}") from error
    kind = getattr(peft, name, None)
    if not (isinstance(kind, type) and issubclass(kind, peft.PeftConfig)):
        raise SettingError("config", name, "the name of a configuration of peft, such as LoraConfig or IA3Config")
    if issubclass(kind, peft.PromptLearningConfig):
        raise SettingError("config", name, "one that changes layers; for learned prompts there is networks.SoftPrompt")
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise SettingError("options", options, f"arguments of peft.{name}: {error}") from error


def inject(network: nn.Module, config: Any, options: dict[str, Any]) -> None:
    """Add adapters to a frozen network.

    Raises:
        SettingError: the configuration does not fit the network.
    """
    try:
        import_module("peft").inject_adapter_in_model(config, network)
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError) as error:
        raise SettingError("options", options, f"options that fit the network; peft says: {error}") from error
