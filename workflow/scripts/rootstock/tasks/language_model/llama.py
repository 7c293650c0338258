"""A Llama in Hugging Face's form: its weight names, and its config.json to and from our shape. Light: no torch."""

from typing import Any

from .settings import Model, RopeScaling

NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head": "lm_head.weight",
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
ROPE_NUMBERS = ("factor", "low_freq_factor", "high_freq_factor")
ORIGINAL_CONTEXT = "original_max_position_embeddings"
DEFAULT_POSITIONS, DEFAULT_EPSILON, DEFAULT_THETA = 2048, 1e-6, 10_000.0  # of transformers, for keys a file lacks

Sizes = dict[str, tuple[int, ...]]


def llama_name(name: str) -> str:
    """A Llama's name for one of our weights."""
    if name in NAMES:
        return NAMES[name]
    _, layer, part = name.split(".", 2)  # blocks.3.attention.query.weight
    return f"model.layers.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"


def sizes_of(shape: Model, vocabulary: int) -> Sizes:
    """The weights of one of our models and their sizes."""
    d, of_queries, of_keys = shape.d_model, shape.n_heads * shape.d_head, shape.n_key_heads * shape.d_head
    block = {
        "attention_norm": (d,),
        "attention.query": (of_queries, d),
        "attention.key": (of_keys, d),
        "attention.value": (of_keys, d),
        "attention.output": (d, of_queries),
        "feed_forward_norm": (d,),
        "feed_forward.gate": (shape.d_ff, d),
        "feed_forward.up": (shape.d_ff, d),
        "feed_forward.down": (d, shape.d_ff),
    }
    sizes: Sizes = {"embedding.weight": (vocabulary, d), "norm.weight": (d,)}
    sizes |= {f"blocks.{n}.{name}.weight": size for n in range(shape.n_layers) for name, size in block.items()}
    return sizes if shape.is_tied else sizes | {"head": (vocabulary, d)}


def shape_of(config: dict[str, Any], context_length: int) -> Model:
    """The shape of a model whose config.json has no fault."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    kv_heads, head_width = config.get("num_key_value_heads") or heads, config.get("head_dim") or width // heads
    longest, rope = config.get("max_position_embeddings") or DEFAULT_POSITIONS, rope_of(config)
    return Model(
        d_model=width,
        n_heads=heads,
        n_layers=config["num_hidden_layers"],
        d_ff=config["intermediate_size"],
        context_length=context_length,
        n_kv_heads=None if kv_heads == heads else kv_heads,
        head_width=None if head_width * heads == width else head_width,
        is_tied=config.get("tie_word_embeddings", False),
        norm_epsilon=config.get("rms_norm_eps", DEFAULT_EPSILON),
        rope_theta=rope["rope_theta"],
        rope_scaling=_scaling(rope) if rope["rope_type"] == "llama3" else None,
        longest_context=None if longest == context_length else longest,
    )


def config_of_shape(shape: Model, vocabulary: int, begin: int, end: int) -> dict[str, Any]:
    """The config.json of one of our models."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if (scaling := shape.rope_scaling) is not None:
        rope |= {"rope_type": "llama3", ORIGINAL_CONTEXT: scaling.original_context}
        rope |= {name: getattr(scaling, name) for name in ROPE_NUMBERS}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_key_heads,
        "head_dim": shape.d_head,
        "hidden_act": "silu",
        "max_position_embeddings": shape.longest_context or shape.context_length,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_parameters": rope,
        "tie_word_embeddings": shape.is_tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": end,
        "dtype": "float32",
    }


def rope_of(config: dict[str, Any]) -> dict[str, Any]:
    """A config's rotary positions in the form of transformers 5; older ones have rope_theta and rope_scaling."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(found, dict):
        return {"rope_type": found, "rope_theta": None}
    theta = found.get("rope_theta", config.get("rope_theta", DEFAULT_THETA))
    return found | {"rope_type": found.get("rope_type", found.get("type", "default")), "rope_theta": theta}


def _scaling(rope: dict[str, Any]) -> RopeScaling:
    return RopeScaling(original_context=rope[ORIGINAL_CONTEXT], **{name: rope[name] for name in ROPE_NUMBERS})
