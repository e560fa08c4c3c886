"""Small trained parts in a large frozen network: LoRA, bottlenecks, prompts, and chosen parameters of its own.

The rule here: an adapter wraps any network and passes on what the network says about itself; the frozen rest never
changes, and stays in evaluation mode. An adapter's parameters are an adaptable set like any other.
"""

from metalit.networks.adapters.base import AdaptedNetwork
from metalit.networks.adapters.bottleneck import Bottleneck
from metalit.networks.adapters.frozen import Frozen
from metalit.networks.adapters.lora import LoRA
from metalit.networks.adapters.soft_prompt import SoftPrompt
from metalit.networks.adapters.through_peft import Peft
from metalit.networks.adapters.tuned import Tuned

__all__ = ["AdaptedNetwork", "Bottleneck", "Frozen", "LoRA", "Peft", "SoftPrompt", "Tuned"]
