"""Llama-family models small enough to make in a test, with random weights and a real tokenizer."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
CHAT_TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
TRAINING_TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "for i in range(10):\n    print(i, i * i)\n",
    "A question has an answer; an answer has a reason; a reason has a question.",
] * 4

FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {}),
    "llama_untied": (transformers.LlamaConfig, {"tie_word_embeddings": False}),
    "llama_biased": (transformers.LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama3_rope": (
        transformers.LlamaConfig,
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "mistral_window": (transformers.MistralConfig, {"sliding_window": 9}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 32}),
}
"""One of each optional part: biases, head norms, windows, stretched rotary embeddings."""

ONLY_VERIFIED: dict[str, tuple[Any, dict[str, Any]]] = {
    "gemma3": (
        transformers.Gemma3TextConfig,
        {
            "head_dim": 16,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 24,
        },
    ),
}
"""Families that a verifier runs and the exporter refuses."""

_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 160,
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def train_tokenizer(vocab_size: int = 300) -> transformers.PreTrainedTokenizerFast:
    """A byte-level tokenizer of exactly `vocab_size` tokens, at least 259."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    assert tokenizer.get_vocab_size() == vocab_size
    make: Any = transformers.PreTrainedTokenizerFast
    fast: transformers.PreTrainedTokenizerFast = make(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def write_tiny_model(directory: Path, family: str = "llama", **settings: Any) -> Path:
    """Write a model directory; the same call makes the same weights."""
    config_class, extra = (FAMILIES | ONLY_VERIFIED)[family]
    tokenizer = train_tokenizer()
    config = config_class(**{**_SHAPE, "vocab_size": len(tokenizer), **extra, **settings})
    torch.manual_seed(0)
    make: Any = transformers.AutoModelForCausalLM
    model = make.from_config(config).eval()
    _move_constants(model)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _move_constants(model: Any) -> None:
    """Norms start at one and biases at zero: a graph that forgot them would be right."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                noise = 0.3 * torch.randn_like(parameter)
                parameter.copy_(noise if name.endswith("bias") else 1 + noise)
