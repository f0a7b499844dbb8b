"""Each check fires for its mistake, with the name of what is wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import checks
from django.db import models
from django.test import override_settings
from rest_framework import serializers

from drf_webhooks.checks import check_endpoints
from drf_webhooks.delivery import trust
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Deposit, Landlord, RentalUnit, Tenant
from tests.app.serializers import DepositSerializer, TenantSerializer, UnitInLandlordSerializer


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


def declare(serializer: Any, **attributes: Any) -> type[Any]:
    return type(
        "SomeWebhook", (ModelSerializerWebhook,), {"serializer_class": serializer, **attributes}
    )


def found() -> list[checks.CheckMessage]:
    return checks.run_checks(tags=["drf_webhooks"])


class Lost(serializers.ModelSerializer[Deposit]):
    """Nests a model that no relation leads to."""

    best_landlord = UnitInLandlordSerializer()

    class Meta:
        model = Deposit
        fields = ("id", "best_landlord")


class NeedsRequest(serializers.ModelSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = ("id",)

    def get_fields(self) -> Any:
        return {"id": serializers.CharField(help_text=self.context["request"].user.name)}


class WithMethod(serializers.ModelSerializer[Tenant]):
    title = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ("id", "title")

    def get_title(self, tenant: Tenant) -> str:
        return str(tenant)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "E002": (
        lambda: (
            declare(DepositSerializer, base_name="a"),
            declare(TenantSerializer, base_name="a"),
        ),
        "SomeWebhook and SomeWebhook have one base_name, 'a'",
    ),
    "E003": (
        lambda: (
            declare(DepositSerializer, base_name="a"),
            declare(DepositSerializer, base_name="b"),
        ),
        "declare one serializer, DepositSerializer",
    ),
    "E004": (lambda: declare(Lost), "cannot tell which deposits a changed RentalUnit concerns"),
    "E005": (lambda: declare(TenantSerializer, base_name="a b"), "'a b', which is no event type"),
    "E006": (lambda: declare(NeedsRequest), "NeedsRequest cannot be made: AttributeError"),
    "E007": (
        lambda: declare(TenantSerializer, depends_on=["user__nothing"]),
        "'user__nothing': User has no relation or column 'nothing'",
    ),
    "E008": (
        lambda: declare(TenantSerializer, signal_model_instance_base_getters={Landlord: "x"}),
        "to 'x'",
    ),
    "E010": (
        lambda: declare(TenantSerializer, skip_unchanged=True, serialize="deferred"),
        "SomeWebhook has skip_unchanged and serialize = 'deferred'",
    ),
    "W001": (lambda: declare(WithMethod), "1 serializer fields may read rows"),
}


@pytest.mark.parametrize("number", CASES)
def test_a_mistake_is_said(number: str) -> None:
    make, said = CASES[number]
    make()

    (message,) = found()

    assert message.id == f"drf_webhooks.{number}"
    assert said in message.msg
    assert message.hint


def test_keys_that_the_database_acts_on_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Django 6.1 has it; before, anything of its class's name will do.
    unseen = getattr(models, "DB_CASCADE", type("DatabaseOnDelete", (), {})())
    monkeypatch.setattr(Deposit._meta.get_field("tenant").remote_field, "on_delete", unseen)
    declare(DepositSerializer)

    (message,) = found()

    assert message.id == "drf_webhooks.W002"
    assert "core.Deposit.tenant" in message.msg


def test_the_tree_is_printed() -> None:
    declare(Lost)

    assert "Deposit\n        best_landlord: RentalUnit  <- nothing leads back" in found()[0].msg


@pytest.mark.parametrize("getter", [None, lambda unit: unit.deposits.all()])
def test_a_getter_or_none_settles_it(getter: Any) -> None:
    declare(Lost, signal_model_instance_base_getters={RentalUnit: getter})

    assert found() == []


def test_a_serializer_without_model_is_refused() -> None:
    class Plain(serializers.Serializer[Any]):
        pass

    declare(Plain, base_name="plain")

    (message,) = found()
    assert message.id == "drf_webhooks.E006"


@override_settings(DRF_WEBHOOKS={"LEASSE": 1}, USE_TZ=False)
def test_settings_are_checked() -> None:
    assert [each.id for each in found()] == ["drf_webhooks.E001", "drf_webhooks.E009"]


def test_dependencies_that_are_declared_quiet_the_warning() -> None:
    declare(WithMethod, depends_on=["address"])

    assert found() == []


@override_settings(DRF_WEBHOOKS={"CA_BUNDLE": "/there/is/no/such.pem"})
def test_a_bundle_that_cannot_be_read_is_named() -> None:
    (message,) = found()

    assert message.id == "drf_webhooks.E201"
    assert "'/there/is/no/such.pem', which is of no use: No such file" in message.msg


def test_a_system_without_authorities_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_places", lambda: (None, None))
    trust._system.cache_clear()
    assert [each.id for each in found()] == ["drf_webhooks.W201"]

    trust._system.cache_clear()


@override_settings(DRF_WEBHOOKS={"FORMATS": {"own": "there.is.none"}})
def test_a_format_that_is_none_is_named() -> None:
    (message,) = found()

    assert message.id == "drf_webhooks.E202"
    assert "FORMATS']['own'] cannot be imported" in message.msg


@pytest.mark.django_db
def test_a_format_that_endpoints_have_and_that_lacks_something_is_named() -> None:
    for number in range(2):
        Endpoint.objects.create(
            url=f"https://{number}.example/", event_types=["*"], format="cloudevents"
        )
    Endpoint.objects.create(url="https://a.example/", event_types=["*"])

    assert check_endpoints() == []
    (message,) = check_endpoints(databases=["default"])

    assert message.id == "drf_webhooks.E203"
    assert "Endpoints in the database 'default' cannot be sent to." in message.msg
    assert "needs a source" in message.msg
    with override_settings(DRF_WEBHOOKS={"CLOUDEVENTS_SOURCE": "/shop"}):
        assert check_endpoints(databases=["default"]) == []
    with override_settings(DRF_WEBHOOKS={"X": 1}):
        assert check_endpoints(databases=["default"]) == []


@pytest.mark.django_db
def test_without_tables_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endpoint._meta, "db_table", "there_is_no_such_table")

    assert check_endpoints(databases=["default"]) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("drf_webhooks.mail.mail_owner", None),
        ("drf_webhooks.mail.nobody", 'does not define a "nobody" attribute'),
        ("nowhere", "nowhere doesn't look like a module path"),
        ("drf_webhooks.mail.__name__", "It is no function"),
    ],
)
def test_the_handler_of_notices_must_be_a_function(path: str, said: str | None) -> None:
    with override_settings(DRF_WEBHOOKS={"NOTICE_HANDLER": path}):
        messages = [each.msg for each in found() if each.id == "drf_webhooks.E011"]

    assert len(messages) == (said is not None)
    assert all(str(said) in each for each in messages)
