"""A client that a public generator makes from the document reads what is really sent."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import ValidationError

from drf_webhooks import endpoints
from drf_webhooks.contrib.spectacular import webhooks_document
from drf_webhooks.contrib.spectacular.files import write
from drf_webhooks.models import Delivery, Endpoint, Event, EventBody
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import isolated_registry
from tests.app.models import Deposit, Document
from tests.app.serializers import DepositSerializer, DocumentSerializer, TenantSerializer
from tests.contrib.openapi import document
from tests.factories import make_address, make_deposit, make_user
from tests.test_versions import NEW, OLD, NewForm, OldForm

Read = Callable[[bytes], Any]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return what reads any message, as a receiver has it who knows nothing but the document."""
    found = document(DepositSerializer, DocumentSerializer, TenantSerializer)
    return generated(found, tmp_path_factory.mktemp("client"))


def generated(found: dict[str, Any], folder: Path) -> Read:
    """Have models made from a document, and return what reads a message by them."""
    schema, module = folder / "schema.yaml", folder / "client.py"
    validate(found)
    schema.write_text(write(found, as_json=False))
    options = {
        "--input": str(schema),
        "--input-file-type": "openapi",
        "--output": str(module),
        "--output-model-type": "pydantic_v2.BaseModel",
        "--target-python-version": "3.11",
        "--formatters": "builtin",
    }
    arguments = [part for pair in options.items() for part in pair]
    command = [sys.executable, "-m", "datamodel_code_generator", *arguments]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603  # our own interpreter
    spec = spec_from_file_location("generated_client", module)
    assert spec is not None
    assert spec.loader is not None
    client = module_from_spec(spec)
    sys.modules[spec.name] = client
    try:
        spec.loader.exec_module(client)
        # Its names are resolved while they are known.
        client.WebhookEvent.model_rebuild()
    finally:
        del sys.modules[spec.name]
    return lambda body: client.WebhookEvent.model_validate_json(body).root


@pytest.mark.django_db
def test_it_reads_each_event_of_real_changes(read: Read, everything: Endpoint) -> None:
    whole = make_deposit(amount=Decimal("12.50"), note="paid")
    make_deposit(landlord=None, unit=None, tenant=whole.tenant)
    whole.tenant.name = "Bea"
    whole.tenant.save()
    Deposit.objects.filter(pk=whole.pk).update(amount=3)
    user = make_user()
    Endpoint.objects.create(url="https://b.example/", event_types=["*"], owner=user)
    paper = Document.objects.create(title="Contract", user=user)
    paper.readers.add(user)
    whole.landlord.address = make_address(city="Wien")
    whole.landlord.save()
    whole.delete()
    paper.delete()
    endpoints.send_test(everything)

    messages = [read(bytes(each.body)) for each in Event.objects.order_by("created_at", "pk")]

    kinds = {each.type for each in messages}
    assert kinds == {
        "core.deposit.created",
        "core.deposit.deleted",
        "core.deposit.updated",
        "core.document.created",
        "core.document.deleted",
        "core.document.updated",
        "core.landlord.created",
        "core.landlord.updated",
        "webhooks.endpoint.test",
    }
    assert all(each.timestamp <= datetime.now(tz=UTC) for each in messages)


@pytest.mark.django_db
def test_it_reads_what_a_message_says(read: Read, everything: Endpoint) -> None:
    deposit = make_deposit(amount=Decimal("12.50"), note="paid", landlord=None)

    message = read(bytes(Event.objects.get(type="core.deposit.created").body))

    assert type(message).__name__ == "CoreDepositCreatedEvent"
    assert message.sequence == 1
    assert message.replay is None
    assert message.data.id == deposit.pk
    assert Decimal(message.data.amount) == Decimal("12.50")
    assert message.data.tenant.user.username == deposit.tenant.user.username
    assert message.data.landlord is None


def test_it_refuses_what_is_no_message(read: Read) -> None:
    with pytest.raises(ValidationError):
        read(b'{"type":"core.deposit.created","timestamp":"2026-03-14T09:26:53Z","sequence":1}')


@pytest.mark.django_db
def test_it_tells_a_thin_message_from_a_whole_one(read: Read, everything: Endpoint) -> None:
    Endpoint.objects.create(url="https://b.example/", event_types=["*"], is_thin=True)
    deposit = make_deposit()
    kind = "core.deposit.created"

    whole = read(bytes(Event.objects.get(type=kind).body))
    thin = read(bytes(EventBody.objects.get(event__type=kind).body))

    assert type(whole).__name__ == "CoreDepositCreatedEvent"
    assert type(thin).__name__ == "CoreDepositCreatedThinEvent"
    assert thin.data.id == deposit.pk
    with pytest.raises(ValidationError):
        read(json.dumps({**json.loads(thin.model_dump_json()), "thin": False}).encode())


@pytest.mark.django_db
def test_it_tells_versions_apart(tmp_path: Path) -> None:
    with isolated_registry():
        given = {"versions": {OLD: OldForm, NEW: NewForm}, "depends_on": ["unit"]}
        type("DepositWebhook", (ModelSerializerWebhook,), given)
        read = generated(webhooks_document(), tmp_path)
        alone = generated(webhooks_document(OLD), tmp_path)
        for version in (OLD, NEW):
            for is_thin in (False, True):
                Endpoint.objects.create(
                    url="https://b.example/", event_types=["*"], version=version, is_thin=is_thin
                )
        make_deposit()

    bodies = [each.body or b"" for each in Delivery.objects.order_by("pk")]

    old, new = OLD.replace("-", ""), "CoreDepositCreatedEvent"
    assert [type(read(each)).__name__ for each in bodies] == [
        f"CoreDepositCreatedV{old}Event",
        f"CoreDepositCreatedV{old}ThinEvent",
        new,
        "CoreDepositCreatedThinEvent",
    ]
    assert type(alone(bodies[0])).__name__ == new
    with pytest.raises(ValidationError):
        alone(bodies[2])
