"""What every table of a configuration is made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of the configuration: immutable, and without room for an unknown key."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )


def option(default: object, meaning: str, *, because: str) -> Any:
    """Returns a key that may be left out: its default as TOML writes it, and why this default."""
    return Field(default, description=meaning, json_schema_extra={"x-default-because": because})
