"""A Llama's names for what a model of ours has. Light: no torch."""

LLAMA_NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}


def llama_name(name: str) -> str:
    """The name that a weight of ours has in a Llama."""
    if name in LLAMA_NAMES:
        return LLAMA_NAMES[name]
    _, layer, part = name.split(".", 2)  # blocks.3.attention.query.weight
    return f"model.layers.{layer}.{LLAMA_NAMES[part.removesuffix('.weight')]}.weight"
