"""The configuration says what the environment and the secrets say, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.config import REPOSITORY, Config, get_config, read_config, use_secrets
from dashboard.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Config.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    use_secrets({})


def test_without_any_setting_the_history_is_a_file_beside_the_bundled_model() -> None:
    assert read_config().database_url == f"sqlite:///{REPOSITORY}/data/history.db"
    assert read_config().models_allowed == ()
    assert not read_config().allow_local_models


def test_the_environment_is_read_in_upper_case_and_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://lens@db/lens")
    monkeypatch.setenv("MODELS_ALLOWED", "gpt2, distilgpt2,")
    monkeypatch.setenv("ALLOW_LOCAL_MODELS", "yes")
    monkeypatch.setenv("LOCAL_MODELS", "/srv/models,~/mine")
    monkeypatch.setenv("HUB_TIMEOUT", "0.5")
    config = read_config()
    assert config.database_url == "postgresql+psycopg://lens@db/lens"
    assert config.models_allowed == ("gpt2", "distilgpt2")
    assert config.allow_local_models
    assert config.local_models == (Path("/srv/models"), Path.home() / "mine")
    assert config.hub_timeout == 0.5


def test_secrets_fill_in_what_the_environment_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "2")
    config = read_config({"WORKERS": 3, "queue_limit": 5, "MODELS_ALLOWED": ["gpt2"], "another_service": {"key": "x"}})
    assert (config.workers, config.queue_limit, config.models_allowed) == (2, 5, ("gpt2",))


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "")
    monkeypatch.setenv("DEFAULT_MODEL", "")
    assert read_config().workers == 1
    assert read_config().default_model is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "many"),
        ("WORKERS", "0"),
        ("QUEUE_LIMIT", "-1"),
        ("HUB_TIMEOUT", "0"),
        ("HUB_TIMEOUT", "nan"),
        ("ALLOW_LOCAL_MODELS", "perhaps"),
        ("PROMPT_LENGTH_LIMIT", "0"),
        ("MAX_NEW_TOKENS_LIMIT", "1e9"),
    ],
)
def test_a_bad_value_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        read_config()
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} cannot be {value!r}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_database_password_appears_neither_in_errors_nor_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "lens:hunter2@db")
    with pytest.raises(ConfigError) as caught:
        read_config()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("DATABASE_URL", "postgresql://lens:hunter2@db/lens")
    assert "hunter2" not in repr(read_config())


def test_the_configuration_of_the_process_is_read_once_and_again_with_new_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = get_config()
    monkeypatch.setenv("WORKERS", "4")
    assert get_config() is first
    use_secrets({"QUEUE_LIMIT": 2})
    assert (get_config().workers, get_config().queue_limit) == (4, 2)
