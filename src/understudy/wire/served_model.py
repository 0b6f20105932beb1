"""Which model a request means: a served name, an adapter, or by default the first."""

from understudy.wire.errors import not_found
from understudy.wire.limits import ModelLimits


def check_model(name: str | None, limits: ModelLimits) -> None:
    """Raise ApiError for a model that is not served."""
    if not limits.checks_model_name:
        return
    if not name or name in limits.served_model_names or name in limits.lora_names:
        return
    aliases = ", ".join(limits.served_model_names)
    raise not_found(f"The model `{name}` does not exist. Valid aliases: {aliases}.", "model")


def answering_name(name: str | None, limits: ModelLimits) -> str:
    """Return the name that answers carry: the adapter's, else the first served name, whichever was asked for."""
    return name if name and name in limits.lora_names else limits.served_model_names[0]
