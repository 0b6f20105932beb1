"""`understudy serve`: one emulated worker, in place of `vllm serve`. Its flags are vLLM's, and so is their parser."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from understudy import VLLM_VERSION, __version__
from understudy.cli.event_loop import run_on_fast_loop
from understudy.cli.status import FAILED, SUCCESS

if TYPE_CHECKING:
    from understudy.server.settings import Settings


def serve(words: Sequence[str]) -> int:
    """Serve until interrupted; `words` are those after `serve`. Wrong flags exit with status 2, as vLLM does."""
    from understudy.server.arguments import parse_serve_arguments  # noqa: PLC0415 - after --help of other commands
    from understudy.server.serve import serve as run_server  # noqa: PLC0415
    from understudy.server.settings import settings_of  # noqa: PLC0415

    arguments = parse_serve_arguments(words)
    _configure_log(str(arguments.values["uvicorn_log_level"]))
    settings = settings_of(arguments, os.environ)
    _announce(settings)
    return SUCCESS if run_on_fast_loop(run_server(settings)) else FAILED


def _announce(settings: "Settings") -> None:
    """Say once what is served and what of the command line changes nothing."""
    log = logging.getLogger("understudy")
    setup, config = settings.setup, settings.engine_config
    log.info("understudy %s, as vLLM %s: no GPU, no weights", __version__, VLLM_VERSION)
    log.info(
        "%s on %s: %d KV-cache blocks of %d tokens, max_model_len %d, tokenizer %s",
        setup.model.name,
        setup.gpu.name,
        config.num_gpu_blocks,
        config.block_size,
        config.max_model_len,
        settings.tokenizer.name,
    )
    log.info("Latency: %s", setup.latency_source)
    for note in setup.notes:
        log.info("%s", note)
    if settings.arguments.without_effect:
        log.info("Accepted, without effect here: %s", " ".join(settings.arguments.without_effect))


def _configure_log(level: str) -> None:
    known = {"critical", "error", "warning", "info", "debug"}
    logging.basicConfig(
        level=level.upper() if level in known else "DEBUG",
        format="%(levelname)s:     %(message)s",
        stream=sys.stderr,
    )
