"""A low-rank update in PEFT's format: a folder that `PeftModel.from_pretrained` loads beside its trunk."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ...engine.low_rank import NAME, update_of
from ...store.files import write_atomically, write_json
from .llama import llama_name
from .task import trunk_folder

PARTS = {"down": "lora_A", "up": "lora_B"}


def write_adapter(weights: dict[str, Tensor], metadata: dict[str, Any], folder: Path) -> int:
    """Write the updates in `weights` into `folder`; return the number of tensors. PEFT looks for the trunk's export
    beside it."""
    from safetensors.torch import save

    tensors = {peft_name(name): tensor.contiguous() for name, tensor in update_of(weights).items() if is_part(name)}
    write_atomically(folder / "adapter_model.safetensors", save(tensors, metadata={"format": "pt"}))
    trunk = folder.parent / trunk_folder(metadata["spec"]["base"])
    write_json(folder / "adapter_config.json", adapter_config(metadata["spec"], str(trunk)))
    return len(tensors)


def is_part(name: str) -> bool:
    """Whether a tensor is a factor; the scale is not written, because it follows from the configuration."""
    return name.rpartition(".")[2] in PARTS


def peft_name(name: str) -> str:
    """PEFT's name of a factor: blocks.0.attention.query.<NAME>.down is …layers.0.self_attn.q_proj.lora_A.weight."""
    layer, part = name.split(f".{NAME}.")
    return f"base_model.model.{llama_name(f'{layer}.weight').removesuffix('weight')}{PARTS[part]}.weight"


def adapter_config(spec: dict[str, Any], trunk: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": trunk,
        "r": spec["rank"],
        "lora_alpha": spec["alpha"],
        "target_modules": spec["targets"],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
