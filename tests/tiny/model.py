"""A randomly initialised Llama with a tokenizer of its own, as a folder that `outrider.load` opens."""

from pathlib import Path
from typing import Any

WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "user",
    "assistant",
    ":",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "and",
    "ran",
    "far",
    "away",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def save(folder: Path, *, seed: int = 0, words: list[str] = WORDS, context: int = 256) -> Path:
    """Write the folder; models of different seeds share the tokenizer, whose tokens are words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return _save(folder, tokenizer, len(words), seed, context)


def save_bytes(folder: Path, *, seed: int = 0, context: int = 1024) -> Path:
    """The same with a tokenizer whose tokens are bytes, so that any text can be written."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate([*WORDS[:3], *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _save(folder, tokenizer, len(letters) + 3, seed, context)


def _save(folder: Path, tokenizer: Any, vocab_size: int, seed: int, context: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE
    )
    fast.save_pretrained(folder)
    return folder
