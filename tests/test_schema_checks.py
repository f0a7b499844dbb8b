import importlib.util
from typing import Any

import pytest
from django.test import override_settings

from drf_webhooks.schema_checks import HOOK, check_document
from drf_webhooks.testing import isolated_registry

ENUMS = "drf_spectacular.hooks.postprocess_schema_enums"
INSTALLED = {"INSTALLED_APPS": ["drf_spectacular"]}


def ids(**settings: Any) -> list[str]:
    with override_settings(**settings):
        return [str(each.id) for each in check_document()]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"OAS_VERSION": "3.0.3"}, [], id="no webhooks wanted"),
        pytest.param(
            {"OAS_VERSION": "3.1.1", "POSTPROCESSING_HOOKS": [ENUMS, HOOK]},
            [],
            id="as it should be",
        ),
        pytest.param({"OAS_VERSION": "3.2.0", "POSTPROCESSING_HOOKS": [HOOK]}, [], id="newer"),
        pytest.param(
            {"OAS_VERSION": "3.0.3", "POSTPROCESSING_HOOKS": [HOOK]},
            ["drf_webhooks.W320"],
            id="old version",
        ),
        pytest.param({"POSTPROCESSING_HOOKS": [HOOK]}, ["drf_webhooks.W320"], id="no version"),
        pytest.param(
            {"OAS_VERSION": "3.1.1", "POSTPROCESSING_HOOKS": [HOOK, ENUMS]},
            ["drf_webhooks.W323"],
            id="another after it",
        ),
    ],
)
def test_the_document_is_checked(settings: dict[str, Any], expected: list[str]) -> None:
    assert ids(SPECTACULAR_SETTINGS=settings) == expected


def test_settings_that_are_none_are_for_others_to_complain_of() -> None:
    assert ids(SPECTACULAR_SETTINGS=None) == []


def test_a_document_without_the_webhooks_is_named() -> None:
    with override_settings(**INSTALLED):
        assert ids(SPECTACULAR_SETTINGS={}) == ["drf_webhooks.W321"]
        with isolated_registry():
            assert ids(SPECTACULAR_SETTINGS={}) == []


def test_a_hook_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    settings = {"OAS_VERSION": "3.1.1", "POSTPROCESSING_HOOKS": [HOOK]}

    assert ids(SPECTACULAR_SETTINGS=settings) == ["drf_webhooks.W322"]
