"""The routes /tokenize and /detokenize.

(vllm/entrypoints/serve/tokenize, 0.33.0)
"""

from aiohttp import web

from understudy.errors import InputError
from understudy.server.context import context_of
from understudy.server.prompts import encode_text
from understudy.server.routes.answers import post
from understudy.server.routes.rendering import rendered
from understudy.web import DEFAULT_LIMITS, read_json
from understudy.wire.errors import ApiError
from understudy.wire.tokenization import (
    TokenizeChatRequest,
    detokenize_body,
    parse_detokenize,
    parse_tokenize,
    tokenize_body,
)


async def tokenize(request: web.Request) -> web.Response:
    """Turn a text or a conversation into token ids."""
    context = context_of(request)
    limits, tokenizer = context.limits, context.tokenizer
    wanted = parse_tokenize(
        await read_json(request, DEFAULT_LIMITS), limits, request.headers.get("Content-Type", "")
    )
    if isinstance(wanted, TokenizeChatRequest):
        _, text = rendered(context, wanted)
    else:
        text = wanted.prompt
    token_ids = await encode_text(context, text, add_special_tokens=wanted.add_special_tokens)
    strings = (
        [tokenizer.token_string(token_id) for token_id in token_ids] if wanted.return_token_strs else None
    )
    return web.Response(body=tokenize_body(token_ids, limits, strings), content_type="application/json")


async def detokenize(request: web.Request) -> web.Response:
    """Turn token ids into a text."""
    context = context_of(request)
    wanted = parse_detokenize(
        await read_json(request, DEFAULT_LIMITS), context.limits, request.headers.get("Content-Type", "")
    )
    try:
        text = context.tokenizer.decode(wanted.tokens, skip_special_tokens=False)
    except InputError as error:
        raise ApiError(str(error)) from None
    return web.Response(body=detokenize_body(text), content_type="application/json")


ROUTES: tuple[web.RouteDef, ...] = (post("/tokenize", tokenize), post("/detokenize", detokenize))
