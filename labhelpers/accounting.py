"""How many parameters and bytes a gpt-oss has, part by part, before any is allocated.

gpt-oss's choice: nine tenths and more of the parameters are experts, kept at 4.25 bits; a
token passes through 4 experts of each layer, so it reads a small share of them.

Source: the model card's table of parameters, which this module reproduces (20b: 20.91B total,
3.61B active; 120b: 116.83B and 5.13B). Its convention for "active" is the part that is easy
to miss: the unembedding counts, the embedding does not (a token reads one row of it), and of
the experts count the `num_experts_per_tok` that a token uses, with their biases.

Limits: weights and KV cache only; activations and a framework's overhead come on top.
"""

from labhelpers.config import GptOssConfig

PARTS = ("embedding", "attention", "router", "experts", "norms", "unembedding")
MXFP4_BITS = 4.25  # 32 values of 4 bits share a scale of 8 bits: (32 * 4 + 8) / 32


def count_parameters(config: GptOssConfig) -> dict[str, int]:
    """Parameters of each of PARTS; their sum is the published total."""
    hidden, layers, experts = config.hidden_size, config.num_hidden_layers, config.num_local_experts
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    biases = (q + 2 * kv + hidden) if config.attention_bias else 0
    attention = hidden * q + 2 * hidden * kv + q * hidden + biases + config.num_attention_heads
    return {
        "embedding": config.vocab_size * hidden,
        "attention": layers * attention,  # with one sink a query head
        "router": layers * experts * (hidden + 1),
        "experts": layers * experts * (_expert_weights(config) + _expert_biases(config)),
        "norms": (2 * layers + 1) * hidden,
        "unembedding": config.vocab_size * hidden,
    }


def count_active_parameters(config: GptOssConfig) -> dict[str, int]:
    """Parameters that one token uses, as the model card counts them (no embedding)."""
    parts = count_parameters(config)
    per_expert = parts["experts"] // config.num_local_experts
    return parts | {"embedding": 0, "experts": per_expert * config.num_experts_per_tok}


def weight_bytes(
    config: GptOssConfig, expert_bits: float = MXFP4_BITS, other_bits: float = 16
) -> dict[str, int]:
    """Bytes of each of PARTS: expert weights at expert_bits, all else (biases too) at other_bits.

    The defaults are the published checkpoints'; pass expert_bits=16 for bfloat16 throughout.
    """
    parts = count_parameters(config)
    out = {name: round(n * other_bits / 8) for name, n in parts.items()}
    copies = config.num_hidden_layers * config.num_local_experts
    out["experts"] = copies * _expert_bytes(config, expert_bits, other_bits)
    return out


def bytes_per_token(
    config: GptOssConfig, expert_bits: float = MXFP4_BITS, other_bits: float = 16
) -> dict[str, int]:
    """Weight bytes that decoding one token must read: its bound on a given memory."""
    out = weight_bytes(config, expert_bits, other_bits)
    uses = config.num_hidden_layers * config.num_experts_per_tok
    out["experts"] = uses * _expert_bytes(config, expert_bits, other_bits)
    out["embedding"] = round(config.hidden_size * other_bits / 8)  # one row
    return out


def kv_cache_bytes(
    config: GptOssConfig, context: int, batch: int = 1, bytes_per_value: int = 2
) -> dict[str, int]:
    """KV-cache bytes at `context` tokens a sequence, by layer type.

    A sliding layer stops growing at its window. bytes_per_value: 2 for bfloat16.
    Raises ValueError for a negative context or a batch below 1.
    """
    if context < 0 or batch < 1:
        raise ValueError(f"need context >= 0 and batch >= 1, got {context} and {batch}")
    each = kv_bytes_per_token(config, bytes_per_value)
    kept = {"sliding_attention": min(context, config.sliding_window), "full_attention": context}
    return {kind: batch * kept[kind] * each[kind] for kind in each}


def kv_bytes_per_token(config: GptOssConfig, bytes_per_value: int = 2) -> dict[str, int]:
    """Bytes that one cached token takes, summed over the layers of each type."""
    per_layer = 2 * config.num_key_value_heads * config.head_dim * bytes_per_value  # a key, a value
    kinds = ("sliding_attention", "full_attention")
    return {kind: config.layer_types.count(kind) * per_layer for kind in kinds}


def _expert_weights(config: GptOssConfig) -> int:
    return 3 * config.hidden_size * config.intermediate_size  # gate, up, down


def _expert_biases(config: GptOssConfig) -> int:
    return 2 * config.intermediate_size + config.hidden_size


def _expert_bytes(config: GptOssConfig, expert_bits: float, other_bits: float) -> int:
    weights, biases = _expert_weights(config), _expert_biases(config)
    return round(weights * expert_bits / 8 + biases * other_bits / 8)
