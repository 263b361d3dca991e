"""The table of fields in the docs is that of the code."""

import re
from pathlib import Path

import pytest

from outrider import SettingError
from outrider.server.fields import BODIES, table_of, tables
from server.conftest import service
from tiny.tables import TARGET

SERVING = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def test_the_docs_have_the_table_of_the_code():
    """To write it again: python -c "from outrider.server.fields import tables; print(tables())"."""
    found = re.search(r"<!-- fields -->\n(.*)\n<!-- /fields -->", SERVING.read_text("utf-8"), re.DOTALL)
    assert found is not None
    assert found[1].strip() == tables()


def test_every_field_is_described_once():
    for body in BODIES.values():
        names = [*body.model_fields, *body.IGNORED, *body.REFUSED]
        assert len(names) == len(set(names))
        assert "None |" not in table_of(body)


def test_a_service_needs_a_tokenizer():
    with pytest.raises(SettingError, match="has no tokenizer"):
        service({"target": TARGET})


def fields_of(params):
    return {name for kind in params.__mro__ for name in getattr(kind, "__annotations__", {})}


def known_to(path):
    body = BODIES[path]
    names = {field.alias or name for name, field in body.model_fields.items()}
    return {*names, *body.IGNORED, *body.REFUSED}


def test_every_field_of_the_official_clients_is_in_the_tables():
    """What a client may send is supported, ignored or refused with a reason, and not merely unknown."""
    chat = pytest.importorskip("openai.types.chat.completion_create_params")
    from anthropic.types import message_create_params as messages
    from openai.types import completion_create_params as completions
    from openai.types.responses import response_create_params as responses

    for path, params in {
        "/v1/chat/completions": chat.CompletionCreateParamsStreaming,
        "/v1/completions": completions.CompletionCreateParamsStreaming,
        "/v1/responses": responses.ResponseCreateParamsStreaming,
        "/v1/messages": messages.MessageCreateParamsStreaming,
    }.items():
        asked = fields_of(params)
        assert len(asked) > 10
        assert asked - known_to(path) == set()
