"""What the operator may set: the database, the models that are offered, and the limits.

Every field of ``Config`` is an environment variable in upper case (``DATABASE_URL``, ``MODELS_ALLOWED`` ...),
or an entry of the same name in Streamlit's secrets; the environment wins. The hub's own variables
(``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``) are read by huggingface_hub itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from dashboard.errors import ConfigError

REPOSITORY: Final = Path(__file__).resolve().parent.parent
"""The folder that holds streamlit_app.py and data/."""


def _split(value: object) -> object:
    """``"a, b"`` as ``("a", "b")``; secrets may hold real lists, which stay as they are."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _expand(value: object) -> object:
    """Paths with ``~`` written out, one or several."""
    parts = _split(value)
    if isinstance(parts, list | tuple):
        return tuple(Path(part).expanduser() if isinstance(part, str | Path) else part for part in parts)
    return parts


# NoDecode: a list is written with commas, not as JSON, which nobody types into a form.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_expand)]


class Config(BaseSettings):
    """The operator's choices. Immutable; made by ``read_config``, or ``get_config`` for the process's own."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, protected_namespaces=())

    # The URL may hold a password, so it never appears in a repr, and thus in no log.
    database_url: str = Field(
        default=f"sqlite:///{REPOSITORY / 'data' / 'history.db'}",
        pattern=r"^[a-z][a-z0-9+._-]*://",
        repr=False,
        description="SQLAlchemy URL of the run history.",
    )
    default_model: str | None = Field(
        default=None,
        description="Name of the model chosen at first; unset: gpt2 where possible, otherwise pocket.",
    )
    models_allowed: Names = Field(
        default=(),
        description=(
            "Names of the models that are offered, with commas; owner/name adds a model of the hub. "
            "Unset: the whole catalogue. The bundled model is always offered."
        ),
    )
    allow_local_models: bool = Field(default=False, description="Whether the folders of LOCAL_MODELS are offered.")
    local_models: Folders = Field(
        default=(),
        description="Folders, with commas, each a model in the hub's layout or holding several such folders.",
    )
    hub_timeout: float = Field(default=3.0, gt=0, le=60, description="Seconds to wait for a sign of life of the hub.")
    queue_limit: int = Field(default=8, ge=1, le=1_000, description="Runs that may wait before new ones are refused.")
    workers: int = Field(default=1, ge=1, le=64, description="Runs that are computed at the same time.")
    max_new_tokens_limit: int = Field(default=1_000, ge=1, le=100_000, description="New tokens a run may ask for.")
    prompt_length_limit: int = Field(default=20_000, ge=1, description="Characters that a prompt may have.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the values given, which are those of the secrets."""
        return env_settings, init_settings


def read_config(secrets: Mapping[str, Any] | None = None) -> Config:
    """The configuration from the environment and, where that is silent, from ``secrets`` (any case).

    Raises:
        ConfigError: a value cannot be used; the sentence names it and says what was expected.
    """
    given = {name.lower(): value for name, value in (secrets or {}).items() if name.lower() in Config.model_fields}
    try:
        return Config(**given)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


_secrets: dict[str, Any] = {}


def use_secrets(secrets: Mapping[str, Any]) -> None:
    """Let ``get_config`` look into these secrets too; call it before the first use of the configuration."""
    _secrets.clear()
    _secrets.update(secrets)
    get_config.cache_clear()


@lru_cache(maxsize=1)
def get_config() -> Config:
    """The configuration of this process, read once. Raises ConfigError like ``read_config``."""
    return read_config(_secrets)


def _sentence(error: ValidationError) -> str:
    problem = error.errors()[0]
    field = str(problem["loc"][0])
    name = field.upper()
    description = (Config.model_fields[field].description or "").rstrip(".")
    if field == "database_url":
        # Never the value itself: it may hold a password.
        return f"{name} is no database URL: write it as dialect://..., for example sqlite:////srv/history.db."
    # pydantic's "Input should be ..." reads on from "its value".
    expected = problem["msg"].removeprefix("Input ")
    return (
        f"{name} cannot be {problem['input']!r}: its value {expected} ({description}); "
        "correct it in the environment or in the secrets, or remove it."
    )
