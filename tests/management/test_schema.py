import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from openapi_spec_validator import validate

from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import isolated_registry
from tests.app.models import Tenant
from tests.app.serializers import TenantSerializer, UserSerializer
from tests.test_versions import NEW, OLD, NewForm, OldForm


def run(**options: Any) -> str:
    out = io.StringIO()
    call_command("webhooks_schema", stdout=out, **options)
    return out.getvalue()


def test_it_prints_a_document() -> None:
    found = yaml.safe_load(run())

    validate(found)
    assert "core.deposit.created" in found["webhooks"]
    assert json.loads(run(format="json")) == found


@pytest.mark.parametrize(
    ("name", "chosen", "read"),
    [
        ("schema.yaml", None, yaml.safe_load),
        ("schema.json", None, json.loads),
        ("schema.txt", "json", json.loads),
    ],
)
def test_it_writes_a_file(tmp_path: Path, name: str, chosen: str | None, read: Any) -> None:
    path = tmp_path / name

    assert run(output=str(path), format=chosen) == ""

    validate(read(path.read_text()))
    assert run(diff=str(path)) == "Nothing has changed.\n"


def test_it_fails_on_what_breaks_receivers(tmp_path: Path) -> None:
    path = str(tmp_path / "schema.yaml")
    with isolated_registry():
        type("W", (ModelSerializerWebhook,), {"serializer_class": TenantSerializer})
        run(output=path)

    class ShortSerializer(TenantSerializer):
        class Meta:
            model = Tenant
            fields = ["id", "name", "notes"]

        address = None  # type: ignore[assignment]  # takes it away
        user = None  # type: ignore[assignment]  # takes it away

    out = io.StringIO()
    with isolated_registry():
        type("W", (ModelSerializerWebhook,), {"serializer_class": ShortSerializer})
        with pytest.raises(CommandError, match="4 changes may break") as caught:
            call_command("webhooks_schema", diff=path, output=path, stdout=out)

        assert caught.value.returncode == 1
        assert "breaking    core.tenant.created: data.user is not there any more" in out.getvalue()
        assert "compatible  core.tenant.created: data.notes is new" in out.getvalue()
        # The old one was read before it was written over.
        assert run(diff=path) == "Nothing has changed.\n"


def test_what_breaks_nobody_does_not_fail(tmp_path: Path) -> None:
    path = str(tmp_path / "schema.json")
    with isolated_registry():
        run(output=path)
        type("W", (ModelSerializerWebhook,), {"serializer_class": UserSerializer, "update": False})

        assert run(diff=path) == (
            "compatible  core.user.created: is new\ncompatible  core.user.deleted: is new\n"
        )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("old.yaml", "a: [", "cannot be read"),
        ("old.json", "{", "cannot be read"),
        ("old.yaml", "openapi: 3.0.3", "no OpenAPI document of version 3.1 or later"),
        ("old.yaml", "", "no OpenAPI document of version 3.1 or later"),
    ],
)
def test_a_file_that_is_no_document_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(CommandError, match=f"{name}.*{message}"):
        run(diff=str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none\.yaml cannot be read"):
        run(diff=str(tmp_path / "none.yaml"))
    with pytest.raises(CommandError, match=r"none/schema\.yaml cannot be written"):
        run(output=str(tmp_path / "none" / "schema.yaml"))


def test_it_needs_drf_spectacular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(CommandError, match=r"Install drf-webhooks\[openapi\]"):
        run()


def test_it_writes_one_version_alone() -> None:
    with isolated_registry():
        given = {"versions": {OLD: OldForm, NEW: NewForm}, "depends_on": ["unit"]}
        type("DepositWebhook", (ModelSerializerWebhook,), given)
        found = yaml.safe_load(run(pinned=OLD))

        validate(found)
        assert "OldForm" in found["components"]["schemas"]
        assert "NewForm" not in found["components"]["schemas"]
        with pytest.raises(CommandError, match=f"no version '2020-01'. Known: {OLD}, {NEW}"):
            run(pinned="2020-01")


def test_without_versions_there_is_none_to_write() -> None:
    with isolated_registry(), pytest.raises(CommandError, match="no resource declares versions"):
        run(pinned="2026-01")
