"""A Llama whose next word depends on little but the last one, so that a drafter learns it in seconds."""

from pathlib import Path

from tiny import model

WORDS = [*model.WORDS, "Aa", "Zz", *(f"w{number}" for number in range(47))]
CONTEXT_COUNTS = 0.05  # how much attention and MLP say, compared with a random Llama
FOLLOWS, ENDS, STRAYS = 0.3, 0.27, 0.2  # in the output: the word that mostly follows, the end, and chance
END = 2


def save(folder: Path, seed: int = 0) -> Path:
    """The most probable words run through the whole vocabulary, so that nothing is right by repeating the text."""
    import torch
    from transformers import LlamaForCausalLM

    model.save(folder, words=WORDS, context=512)
    torch.manual_seed(seed)
    weights = LlamaForCausalLM.from_pretrained(folder)
    ring = END + 1 + torch.randperm(len(WORDS) - END - 1)
    with torch.no_grad():
        for layer in weights.model.layers:
            layer.self_attn.o_proj.weight.mul_(CONTEXT_COUNTS)
            layer.mlp.down_proj.weight.mul_(CONTEXT_COUNTS)
        words, output = weights.model.embed_tokens.weight, weights.lm_head.weight
        words.copy_(torch.randn_like(words))
        output.copy_(torch.randn_like(output) * STRAYS)
        output[ring.roll(-1)] += FOLLOWS * words[ring]
        output[END] += ENDS * words[ring[::8]].sum(dim=0)  # after a few words a text may end
    weights.save_pretrained(folder)
    return folder
