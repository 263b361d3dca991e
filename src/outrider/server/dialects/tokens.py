"""vLLM's and llama.cpp's /tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from outrider.prompts.chat import Chat, encode
from outrider.prompts.schema import Text
from outrider.server.bodies import Body, Refusal, parse
from outrider.server.dialects.messages import ChatMessage
from outrider.server.errors import refused
from outrider.server.replies import JsonReply
from outrider.server.reports import text_of
from outrider.server.service import Service


class TokenizeBody(Body):
    """POST /tokenize."""

    model: Text | None = Field(default=None, description="Any name.")
    prompt: Text | None = Field(default=None, description="vLLM's name of the text.")
    content: Text | None = Field(default=None, description="llama.cpp's name of the text.")
    messages: list[ChatMessage] | None = Field(default=None, description="A conversation, through the chat template.")
    add_special_tokens: bool | None = Field(
        default=None, description="As vLLM; `false` where the tokenizer adds none by itself."
    )
    return_token_strs: bool | None = Field(default=None, description="As vLLM: adds `token_strs`.")

    IGNORED: ClassVar[Mapping[str, str]] = {"add_special": "the tokenizer decides", "parse_special": "they are read"}
    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "add_generation_prompt": Refusal("the template ends with the assistant's header", (True,)),
        "with_pieces": Refusal("use return_token_strs", (False,)),
        "chat_template": Refusal("the model's own template is used"),
        "chat_template_kwargs": Refusal("the model's own template is used", ({},)),
        "continue_final_message": Refusal("an answer begins a new message", (False,)),
        "tools": Refusal("messages are encoded without tools", ([],)),
        "mm_processor_kwargs": Refusal("text alone is read", ({},)),
        "media_io_kwargs": Refusal("text alone is read", ({},)),
    }


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Text | None = Field(default=None, description="Any name.")
    tokens: list[int] = Field(description="Token ids.")


def tokenize(service: Service) -> Any:
    async def answer(request: Request, tenant: str) -> Response:
        body = parse(TokenizeBody, await service.bodies.read(request))
        ignored = body.ignored()
        given = [each for each in (body.prompt, body.content, body.messages) if each is not None]
        if len(given) != 1:
            raise refused("give one of prompt, content and messages", "prompt")
        prompt: Any = [message.plain() for message in body.messages] if body.messages is not None else given[0]
        length = len(prompt) if isinstance(prompt, str) else sum(len(message["content"]) for message in prompt)
        most = service.settings.limits.tokenize_characters
        if length > most:
            raise refused(f"the text has {length} characters: at most {most} are encoded at once", "prompt")
        if body.add_special_tokens is False and service.tokenizer.encode(""):
            raise refused("add_special_tokens is false: this tokenizer adds them by itself", "add_special_tokens")
        chat = None if isinstance(prompt, str) else Chat()
        tokens = await service.apart(lambda: encode(prompt, service.tokenizer, service.model, chat))
        reply: dict[str, Any] = {"tokens": tokens, "count": len(tokens), "max_model_len": service.capacity}
        if body.return_token_strs:
            reply["token_strs"] = [text_of(token, service.tokenizer) for token in tokens]
        return JsonReply(reply, headers={"x-outrider-ignored": ", ".join(ignored)} if ignored else None)

    return answer


def detokenize(service: Service) -> Any:
    async def answer(request: Request, tenant: str) -> Response:
        body = parse(DetokenizeBody, await service.bodies.read(request))
        body.ignored()
        size = service.target.traits.vocab_size
        wrong = next((token for token in body.tokens if not 0 <= token < size), None)
        if wrong is not None:
            raise refused(f"tokens holds {wrong}: {service.model} has the tokens 0 to {size - 1}", "tokens")
        text = await service.apart(lambda: service.tokenizer.decode(body.tokens))
        return JsonReply({"prompt": text, "content": text})

    return answer
