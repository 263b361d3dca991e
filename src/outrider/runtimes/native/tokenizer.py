"""Tokenizers without PyTorch, transformers and llama.cpp: tokenizer.json of a folder, and those of GGUF files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from outrider.errors import ModelError, first_line
from outrider.runtimes.files.folder import read_object
from outrider.runtimes.files.refusals import unreadable_tokenizer
from outrider.runtimes.llamacpp.chat_template import compile_template
from outrider.runtimes.llamacpp.header import STRING, Entries, Header, texts
from outrider.runtimes.native import sentencepiece
from outrider.runtimes.native.description import Unknown
from outrider.runtimes.native.gguf_tokens import CONTROL, UNKNOWN, USER, read_tokens
from outrider.runtimes.tokenizers.byte_level import decoded
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer
from outrider.text import Tokenizer, half_character


@dataclass(frozen=True, slots=True)
class Splitting:
    """What llama.cpp does with text before it joins pieces (llama-vocab.cpp).

    Attributes:
        patterns: what text is split by, one after the other.
        whole_words: whether a piece of text that is a token is that token, whatever the merges say.
        begins: whether a text begins with the bos token where the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    begins: bool = False


DIGIT = r"\p{N}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
SEED = QWEN2.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}]+")
IDEOGRAPHS = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Words of capitals and small letters. Letters outside ASCII are both to llama.cpp.
UPPER, LOWER = r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))"
ENDING = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"


def _cased(ending: str, digits: str) -> str:
    words = (f"{UPPER}*{LOWER}+", f"{UPPER}+{LOWER}*")
    before = r"[^\r\n\p{L}\p{N}]?"
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return "|".join([*(before + word + ending for word in words), digits, rest])


# By the name in the file.
SPLITS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4"), Splitting((GPT2,))),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "exaone"), Splitting((DIGIT, GPT2))),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), Splitting((LLAMA3,), True, True)),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), Splitting((LLAMA3,))),
    "glm4": Splitting((LLAMA3,), True),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"), Splitting((QWEN2,))),
    "seed-coder": Splitting((SEED,)),
    **dict.fromkeys(("hunyuan-dense", "deepseek-v3"), Splitting((DIGIT + "{1,3}", IDEOGRAPHS, DEEPSEEK3))),
    "qwen35": Splitting((QWEN35,)),
    "tekken": Splitting((_cased("", DIGIT),), True, True),
    **dict.fromkeys(("gpt-4o", "llama4"), Splitting((_cased(ENDING, DIGIT + "{1,3}"),))),
}
NO_TOKENIZER = (None, b"no_vocab", b"none")
# Tokenizers that tokenizer.json describes in full, without code of their own.
PLAIN = {"TokenizersBackend", "PreTrainedTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast"}


@dataclass(frozen=True)
class Backend:
    """A tokenizer of the tokenizers library, with what HuggingFaceTokenizer asks of one of transformers.

    Attributes:
        names: of special tokens for the chat template, "bos_token" for example.
    """

    backend_tokenizer: Any
    chat_template: str | None
    names: Mapping[str, str]

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        return self.backend_tokenizer.get_added_tokens_decoder()  # type: ignore[no-any-return]

    @property
    def all_special_ids(self) -> list[int]:
        found = (self.backend_tokenizer.token_to_id(name) for name in self.names.values())
        return [token for token in found if token is not None]

    def get_vocab(self) -> Mapping[str, int]:
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)  # type: ignore[no-any-return]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids  # type: ignore[no-any-return]

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        return self.backend_tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)  # type: ignore[no-any-return]

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **_: Any
    ) -> str:
        named = {name: self.names.get(name, "") for name in ("bos_token", "eos_token")} | dict(self.names)
        return str(
            self._template.render(messages=messages, tools=tools, documents=None, add_generation_prompt=True, **named)
        )

    @cached_property
    def _template(self) -> Any:
        assert self.chat_template is not None
        return compile_template(self.chat_template)


def of_folder(folder: Path, trust_remote_code: bool = False) -> HuggingFaceTokenizer | None:
    """The tokenizer beside the weights; None where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    file, settings_file = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not file.exists() and not settings_file.exists():
        return None
    settings = read_object(settings_file) if settings_file.exists() else {}
    if not file.exists() or settings.get("tokenizer_class") not in PLAIN:
        return _of_transformers(folder, trust_remote_code)
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"the tokenizer of {folder} cannot be read: {first_line(error)}") from error
    backend.no_padding()
    backend.no_truncation()
    names = {key: _name(settings[key]) for key in settings if key.endswith("_token") and settings[key]}
    if any(map(half_character, names.values())):
        raise ModelError(f"the tokenizer of {folder} cannot be read: the name of a token holds half a character")
    return HuggingFaceTokenizer(Backend(backend, _template_of(folder, settings), names))


def _of_transformers(folder: Path, trust_remote_code: bool) -> HuggingFaceTokenizer:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ModelError(f"the tokenizer of {folder} needs transformers: pip install transformers") from error
    try:
        # Not left at None: transformers would ask on standard output whether to run the folder's code.
        found = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code))
        found.encode("")  # where settings of the wrong type raise an error
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(unreadable_tokenizer(folder, error)) from error


def _template_of(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    return template if isinstance(template, str) else None


def _name(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def reads(header: Header) -> bool:
    """Whether the tokenizer of a GGUF file is of a kind that is read here, or it has none."""
    kind, split = _kind_of(header)
    return kind in NO_TOKENIZER or kind == sentencepiece.KIND or (kind == b"gpt2" and split in SPLITS)


def _kind_of(header: Header) -> tuple[Any, str]:
    split = header.values.get("tokenizer.ggml.pre", b"")
    return header.values.get("tokenizer.ggml.model"), split.decode(errors="replace") if isinstance(split, bytes) else ""


def of_gguf(header: Header, file: Path) -> Tokenizer | None:
    """The tokenizer of a GGUF file; None where the file has none.

    Raises:
        ModelError: its tokenizer is damaged.
        Unknown: it is of a kind that is not read here.
    """
    kind, split = _kind_of(header)
    if kind in NO_TOKENIZER:
        return None
    if not reads(header):
        raise Unknown(f"its tokenizer is {kind!r} with {split!r}")
    if kind == sentencepiece.KIND:
        return sentencepiece.of_gguf(header, file)
    return _of_byte_level_gguf(header, file, split)


def _of_byte_level_gguf(header: Header, file: Path, split: str) -> HuggingFaceTokenizer:
    values = header.values
    tokens = read_tokens(header, file)
    names = decoded(tokens.names)
    merges = values.get("tokenizer.ggml.merges")
    if not isinstance(merges, Entries) or merges.kind != STRING:
        raise Unknown("it has no tokenizer.ggml.merges")
    pairs = [tuple(line.split(" ", 1)) for line in decoded(texts(file, merges))]
    backend = _byte_level_bpe({name: place for place, name in enumerate(names)}, pairs, SPLITS[split])
    _add_special(backend, names, tokens.attributes)
    special = {}
    for key, name in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        token = values.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(token, int) and 0 <= token < len(names):
            special[key] = names[token]
    begins = values.get("tokenizer.ggml.add_bos_token", SPLITS[split].begins)
    if begins and "bos_token" in special:
        from tokenizers.processors import TemplateProcessing

        bos = special["bos_token"]
        backend.post_processor = TemplateProcessing(f"{bos} $A", special_tokens=[(bos, names.index(bos))])
    template = values.get("tokenizer.chat_template")
    return HuggingFaceTokenizer(Backend(backend, template.decode() if isinstance(template, bytes) else None, special))


def _byte_level_bpe(vocabulary: dict[str, int], merges: list[Any], splitting: Splitting) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    try:
        backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=splitting.whole_words))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"the tokenizer of the file cannot be used: {first_line(error)}") from error
    steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in splitting.patterns]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _add_special(backend: Any, names: Sequence[str], attributes: Sequence[int]) -> None:
    from tokenizers import AddedToken

    for name, bits in zip(names, attributes, strict=True):
        if bits & (UNKNOWN | CONTROL):
            backend.add_special_tokens([AddedToken(name, special=True, normalized=False)])
        elif bits & USER:
            backend.add_tokens([AddedToken(name, special=False, normalized=False)])
