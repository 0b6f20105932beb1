"""The HTTP side of a worker: its routes, and what every request passes on the way to them."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from understudy.server.context import CONTEXT
from understudy.server.kv_events import kv_event_sources
from understudy.server.metrics import creates_series_of_creation
from understudy.server.power import POWER, Power
from understudy.server.routes import (
    chat,
    completions,
    generate,
    info,
    kv_blocks,
    lora,
    openapi,
    operator,
    responses,
    server_info,
    tokens,
    weights,
)
from understudy.server.routes.answers import api_error_answer
from understudy.server.routes.info import KV_EVENT_SOURCES, SERVER_LOAD, TOKENIZER_INFO, ServerLoad
from understudy.server.routes.operation_metrics import sleep_metrics, weight_metrics
from understudy.server.routes.operator import SLEEP_OPERATIONS
from understudy.server.routes.weights import WEIGHT_OPERATIONS, WEIGHTS, Weights
from understudy.server.tokenizer_info import tokenizer_info
from understudy.server.worker import Worker
from understudy.web import (
    DEFAULT_LIMITS,
    ApiKeys,
    BodyError,
    CorsPolicy,
    auth_middleware,
    install_cors,
)
from understudy.web.root_path import ROOT_PATH, stripped_root_path
from understudy.wire.errors import ApiError, internal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


def application(worker: Worker) -> web.Application:
    """Return the application that serves a worker."""
    values = worker.settings.arguments.values
    app = web.Application(client_max_size=DEFAULT_LIMITS.body_bytes)
    app.middlewares.append(auth_middleware(ApiKeys(worker.settings.api_keys, values["auth_compat"])))
    install_cors(
        app,
        CorsPolicy(
            values["allowed_origins"],
            values["allowed_methods"],
            values["allowed_headers"],
            allow_credentials=bool(values["allow_credentials"]),
        ),
    )
    app.middlewares.extend((_counting(worker), _answer_errors))
    if values["enable_request_id_headers"]:
        app.on_response_prepare.append(_name_request)
    if values["root_path"]:
        app[ROOT_PATH] = values["root_path"]
    app[CONTEXT] = worker.context
    app[WEIGHTS] = Weights()
    app[POWER] = Power(worker.frontend, worker.sleep_state)
    app[SERVER_LOAD] = ServerLoad(is_enabled=bool(values["enable_server_load_tracking"]))
    app[KV_EVENT_SOURCES] = lambda: kv_event_sources(worker.publishers)
    for routes in _routes(app, worker):
        app.add_routes(routes)
    return app


def _routes(app: web.Application, worker: Worker) -> Sequence[Sequence[web.RouteDef]]:
    """Return the routes that the flags and the environment allow; gives the application what they need."""
    values, environment = worker.settings.arguments.values, worker.settings.environment
    routes = [info.ROUTES, completions.ROUTES, chat.ROUTES, responses.ROUTES, tokens.ROUTES]
    if values["enable_scale_out"]:
        routes.append(generate.ROUTES)
    else:
        routes.append(generate.DISABLED_ROUTES)
        app[openapi.UNDESCRIBED] = frozenset(route.path for route in generate.DISABLED_ROUTES)
    if operator.is_served(environment):
        unix_seconds = time.time if creates_series_of_creation(environment) else None
        sleep, weight = sleep_metrics(unix_seconds), weight_metrics(unix_seconds)
        worker.metrics.add(sleep)
        worker.metrics.add(weight)
        app[SLEEP_OPERATIONS] = sleep
        app[WEIGHT_OPERATIONS] = weight
        routes += [operator.ROUTES, weights.ROUTES, server_info.ROUTES]
    if lora.is_served(environment):
        routes.append(lora.ROUTES)
    if not values["disable_fastapi_docs"]:
        routes.append(openapi.ROUTES)
    if values["enable_tokenizer_info_endpoint"]:
        app[TOKENIZER_INFO] = lambda: tokenizer_info(worker.settings)
        routes.append(info.TOKENIZER_INFO_ROUTES)
    if values["enable_kv_blocks_endpoint"]:
        app[kv_blocks.LISTED_WORKER] = worker
        routes.append(kv_blocks.ROUTES)
    return routes


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    """Let the answer say the request's own id, or one made up."""
    response.headers.add("X-Request-Id", request.headers.get("X-Request-Id", uuid.uuid4().hex))


def _counting(worker: Worker) -> Middleware:
    metrics = worker.metrics

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        start = time.monotonic()
        status, response_bytes = 500, 0
        try:
            response = await handler(request)
            status, response_bytes = response.status, response.content_length or 0
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            worker.death.answered(status)
            metrics.http(
                request.path,
                request.method,
                status,
                duration_seconds=time.monotonic() - start,
                request_bytes=request.content_length or 0,
                response_bytes=response_bytes,
                root_path=stripped_root_path(request),
            )
        return response

    return counted


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every refusal and failure the shape that vLLM gives it."""
    try:
        return await handler(request)
    except ApiError as error:
        return api_error_answer(error)
    except (web.HTTPException, BodyError):
        raise  # the HTTP shell answers as Starlette would
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - one bad request must not hurt another; the log has the rest
        _log.exception("Internal error in %s %s", request.method, request.path)
        return api_error_answer(internal())
