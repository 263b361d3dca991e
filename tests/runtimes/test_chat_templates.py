"""Chat templates of GGUF files are rendered as transformers renders them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pytest

from outrider import ModelError

jinja2 = pytest.importorskip("jinja2")
ChatTemplate = pytest.importorskip("outrider.runtimes.llamacpp.chat_template").ChatTemplate


class Kind(StrEnum):
    PICTURE = "picture"


@dataclass
class Part:
    kind: str
    data: object


MESSAGES = [
    {"role": "user", "content": "Où <b> & 'c'?"},
    {"role": "assistant", "content": "là", "thinking": "hm"},
    {
        "role": "user",
        "content": "\u2028 </script>",
        "size": np.int64(3),
        "shape": (1, np.float32(0.5)),
        "kind": Kind.PICTURE,
        "parts": [Part("array", np.zeros(2)), {"fine": np.bool_(False), "odd": object}],
    },
]
TEMPLATES = {
    "tools": "{% if tools is not none %}TOOLS{% else %}no tools{% endif %}",
    "documents": "{% if documents is not none %}DOCUMENTS{% else %}no documents{% endif %}",
    "undefined": "{% if nosuch is defined %}there{% else %}not there{% endif %}{{ nosuch }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
    "generation-scope": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "tojson": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "tojson-ascii": "{{ messages | tojson(ensure_ascii=True) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=True) }}",
    "tojson-separators": "{{ messages | tojson(separators=(',', ':')) }}",
    "loop-controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "namespace": "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
    "trimmed": "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}",
    "date": "{{ strftime_now('%Y') }}",
    "dict": "{{ dict(a=1, b='x') | tojson }} {{ dict.fromkeys(['a']) }} {{ dict([('c', 2)]).items() | list }}",
    "dict-is-no-type": "{{ dict is callable }} {{ dict.mro is defined }} {{ dict.__class__ is defined }} "
    "{{ dict.keys is defined }} {{ dict.update is defined }}",
    "specials": "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}",
    "specials-defined": "{{ pad_token is defined }} {{ sep_token is defined }} {{ mask_token is defined }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}/{{ m.thinking }}/{{ m.reasoning }};{% endfor %}",
    "values": "{{ messages[2] | tojson }} {{ messages[2].size + 1 }} {{ messages[2].shape[0] }}",
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
        "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}"
        "{% endif %}{% for message in rest %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + "
        "message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + "
        "message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama-3.1": (
        "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        "
        "{%- set date_string = strftime_now('%d %b %Y') %}\n    {%- endif %}\n{%- endif %}\n"
        "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
        "{%- if tools is not none %}{{- 'Environment: ipython' }}{%- endif %}\n{{- date_string }}\n"
        "{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
        "+ message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}"
    ),
    "qwen-3": (
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if ns.multi_step_tool and message.role == 'user' and message.content is string %}\n"
        "        {%- set ns.multi_step_tool = false %}\n        {%- set ns.last_query_index = index %}\n"
        "    {%- endif %}\n{%- endfor %}\n{%- for message in messages %}\n    {%- set reasoning = '' %}\n"
        "    {%- if message.reasoning_content is string %}\n        {%- set reasoning = message.reasoning_content %}\n"
        "    {%- endif %}\n"
        "    {{- '<|im_start|>' + message.role + '\n<think>' + reasoning + '</think>' + message.content }}\n"
        "    {%- if loop.index0 > ns.last_query_index %}{{- 'last' }}{%- endif %}\n{%- endfor %}"
    ),
    "prompt": "{% if add_generation_prompt %}go on{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_what_it_says_in_transformers(name):
    from tiny.tokenizers import byte_level

    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    words = byte_level(["a"]).wrapped
    words.add_special_tokens(named)
    expected = words.apply_chat_template(
        MESSAGES, chat_template=TEMPLATES[name], add_generation_prompt=True, tokenize=False
    )
    assert ChatTemplate(TEMPLATES[name], named).render(MESSAGES) == expected


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SHOWN = "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}{{ messages[0].content }}"


def test_tools_are_shown_as_in_transformers():
    from tiny.tokenizers import byte_level

    words = byte_level(["a"]).wrapped
    expected = words.apply_chat_template(MESSAGES[:1], tools=[TOOL], chat_template=SHOWN, tokenize=False)
    assert '"name": "f"' in expected
    assert ChatTemplate(SHOWN, {}).render(MESSAGES[:1], [TOOL]) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ dict.__subclasses__() }}",
        "{{ dict.mro() }}",
        "{% set ns = namespace(a=1) %}{% set ns._b = 2 %}",
    ],
)
def test_what_a_template_may_not_do(template):
    with pytest.raises(jinja2.exceptions.TemplateError):
        ChatTemplate(template, {}).render(MESSAGES)


def test_a_template_in_a_file_has_no_tools_and_no_documents(tmp_path):
    import outrider
    from tiny import gguf as tiny_gguf

    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    template = (
        "{% if tools is not none or documents is not none %}sat{% endif %}{% generation %} cat{% endgeneration %}"
    )
    file = tiny_gguf.save(tmp_path / "m.gguf", words=tiny_gguf.WORDS, chat_template=template)
    tokenizer = outrider.load(file, threads=1).tokenizer
    assert tokenizer.encode_chat(MESSAGES) == tokenizer.encode(" cat")


def test_a_template_in_a_file_knows_the_tokens_that_the_file_names(tmp_path):
    import outrider
    from tiny import gguf as tiny_gguf

    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    template = "{{ bos_token }}{{ unk_token }}{% if pad_token is defined %}cat{% else %}sat{% endif %}{{ eos_token }}"
    file = tiny_gguf.save(tmp_path / "m.gguf", words=tiny_gguf.WORDS, chat_template=template)
    tokens = outrider.load(file, threads=1).tokenizer.encode_chat(MESSAGES)
    assert [tiny_gguf.WORDS[token] for token in tokens] == ["<s>", "<unk>", "▁sat", "</s>"]


def test_an_old_jinja_is_refused(monkeypatch):
    monkeypatch.setattr("outrider.runtimes.llamacpp.chat_template.version", lambda name: "3.1.5")
    with pytest.raises(ModelError, match=r"need jinja2 3\.1\.6 or newer, and 3\.1\.5 is installed"):
        ChatTemplate("", {})
