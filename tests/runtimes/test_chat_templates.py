"""Chat templates of GGUF files are rendered as transformers renders them."""

import pytest

jinja2 = pytest.importorskip("jinja2")
compile_template = pytest.importorskip("outrider.runtimes.llamacpp.chat_template").compile_template

MESSAGES = [{"role": "user", "content": "Où <b> & 'c'?"}, {"role": "assistant", "content": "là"}]
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
    "prompt": "{% if add_generation_prompt %}go on{% endif %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_what_it_says_in_transformers(name):
    rendering = pytest.importorskip("transformers.utils.chat_template_utils")
    (expected,), _ = rendering.render_jinja_template(
        [MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=True
    )
    found = compile_template(TEMPLATES[name]).render(
        messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True
    )
    assert found == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_what_a_template_may_not_do(template):
    with pytest.raises(jinja2.exceptions.TemplateError):
        compile_template(template).render(messages=MESSAGES)


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
    assert tokenizer.encode_chat(MESSAGES) == tokenizer._encode(" cat", add_special=False)
