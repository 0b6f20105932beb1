"""What /tokenizer_info shows: the tokenizer's configuration file, or what there is to say of the offline one."""

import json
from pathlib import Path
from typing import Any

from understudy.server.settings import Settings


def tokenizer_info(settings: Settings) -> dict[str, Any]:
    """Return the document."""
    tokenizer = settings.tokenizer
    path = Path(tokenizer.name) / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {"model_max_length": None}
    return {
        **config,
        "tokenizer_class": config.get("tokenizer_class", type(tokenizer).__name__),
        "chat_template": settings.arguments.values["chat_template"] or config.get("chat_template"),
    }
