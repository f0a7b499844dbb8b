"""Declarations that cannot mean what they say are named at start-up."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.core import checks
from django.db import DatabaseError
from django.test import override_settings
from rest_framework import serializers

from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.resource_checks import check_features, check_pinned
from drf_webhooks.resources import FormChange, MessageShape, ModelSerializerWebhook
from tests.app.models import Deposit, Tenant
from tests.app.serializers import DepositSerializer, LandlordWithUnitsSerializer, TenantSerializer
from tests.declaring import DepositForm, declare


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


class Older(serializers.ModelSerializer[Deposit]):
    euros = serializers.IntegerField(source="amount")

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "euros"]


class Open(serializers.ModelSerializer[Deposit]):
    anything = serializers.SerializerMethodField()
    plain = serializers.ReadOnlyField(source="amount")
    secret = serializers.CharField(write_only=True)

    class Meta:
        model = Deposit
        fields: ClassVar = ["anything", "plain", "secret"]

    def get_anything(self, deposit: Deposit) -> Any:
        return {"x": deposit.amount}


class Own(DepositForm):
    def to_representation(self, instance: Deposit) -> Any:
        return {"x": 1}


def instance_method(self: Any, instance: Deposit) -> Any:
    return instance.tenant.user


def headers(cls: Any, event_type: str, instance: Any, owner: Any = None) -> Any:
    return {"X-A": "a"}


class Broken(Older):
    def get_fields(self) -> Any:
        raise LookupError


CASES: dict[str, tuple[str, Callable[[], Any], str, str]] = {
    "a member that is not there": (
        "E340",
        lambda: declare(only_fields=["amont"]),
        "only_fields has 'amont'",
        "Did you mean 'amount'?",
    ),
    "a nested one": (
        "E340",
        lambda: declare(only_fields=["tenant.address.town"]),
        "'tenant.address.town'",
        "Did you mean 'tenant.address'?",
    ),
    "one below a value": ("E340", lambda: declare(only_fields=["amount.x"]), "amount.x", "Did you"),
    "one that is not sent": (
        "E340",
        lambda: declare(serializer_class=Open, only_fields=["secret"]),
        "'secret'",
        "dotted names",
    ),
    "one below a list": (
        "E340",
        lambda: declare(serializer_class=LandlordWithUnitsSerializer, only_fields=["units.nam"]),
        "units.nam",
        "Did you mean 'units.name'?",
    ),
    "a text": ("E340", lambda: declare(only_fields="amount"), "is 'amount'", "Write a list"),
    "no text": ("E340", lambda: declare(only_fields=[1]), "is [1]", "Write a list"),
    "compared and deferred": (
        "E010",
        lambda: declare(only_fields=["amount"], serialize="deferred"),
        "has only_fields and serialize",
        "one of them",
    ),
    "no name": ("E341", lambda: declare(events={"a.b": None}), "'a.b'", "letters, digits"),
    "an operation": ("E341", lambda: declare(events={"deleted": None}), "'deleted'", "by itself"),
    "no serializer": ("E341", lambda: declare(events={"a": 1}), "'a': 1", "of Deposit"),
    "another model's": (
        "E341",
        lambda: declare(events={"a": TenantSerializer}),
        "TenantSerializer",
        "to None",
    ),
    "one type twice": (
        "E342",
        lambda: (
            declare(base_name="a", events={"b": None}),
            declare(base_name="a.b", serializer_class=Older, events={"c": None}),
            declare(base_name="a.b.c", serializer_class=Open, events={}),
            declare(base_name="webhooks.endpoint", serializer_class=Own, events={"test": None}),
        ),
        "the library itself and DepositWebhook have one event type, 'webhooks.endpoint.test'",
        "another name",
    ),
    "no version": ("E343", lambda: declare(versions={"a b": DepositForm}), "'a b'", "2026-01"),
    "no serializer of it": ("E343", lambda: declare(versions={"1": Tenant}), "'1'", "of Deposit"),
    "another newest": (
        "E343",
        lambda: declare(versions={"2": Older, "1": DepositForm}),
        "serializer_class is DepositForm, and its newest version, '2', has Older",
        "Leave serializer_class out",
    ),
    "descriptions that are none": (
        "E347",
        lambda: declare(header_descriptions=["X-A"]),
        "It is ['X-A'].",
        "a dict of names and descriptions",
    ),
    "a description that is no text": (
        "E347",
        lambda: declare(header_descriptions={"X-A": 1}),
        "It is {'X-A': 1}.",
        "a dict of names and descriptions",
    ),
    "a header of ours": (
        "E347",
        lambda: declare(header_descriptions={"webhook-id": "a"}, get_headers=headers),
        "The header 'webhook-id' is set by the library.",
        "X-Region",
    ),
    "a header that nobody returns": (
        "W343",
        lambda: declare(header_descriptions={"X-A": "a"}),
        "describes X-A, and get_headers() is not overridden",
        "Return them from get_headers()",
    ),
    "no length": ("E345", lambda: declare(retention=30), "retention is 30", "timedelta"),
    "too long": ("E345", lambda: declare(retention=timedelta.max), "retention is", "36500 days"),
    "none at all": ("E345", lambda: declare(retention=timedelta(0)), "retention is", "None"),
    "a version without any": (
        "W342",
        lambda: declare(versions={"1": Older, "2": DepositForm}, only_fields=["amount"]),
        "nothing that is in the version '1'",
        "each version",
    ),
    "a method of instances": (
        "E346",
        lambda: setattr(declare(), "get_owner", instance_method),
        "DepositWebhook.get_owner() is a method of instances",
        "@classmethod",
    ),
    "thin with previous": (
        "W341",
        lambda: declare(previous_attributes=True, thin=True),
        "and is thin",
        "Leave one",
    ),
    "previous without updates": (
        "W341",
        lambda: declare(previous_attributes=True, update=False),
        "says no updates",
        "Leave one",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_said(name: str) -> None:
    number, make, said, hint = CASES[name]
    make()

    (message,) = check_features()

    assert message.id == f"drf_webhooks.{number}"
    assert said in message.msg
    assert hint in str(message.hint)


@pytest.mark.parametrize(
    "attributes",
    [
        {"only_fields": ["amount", "tenant", "tenant.user.username"]},
        {"serializer_class": LandlordWithUnitsSerializer, "only_fields": ["units", "units.name"]},
        {"serializer_class": Open, "only_fields": ["anything.x.y", "plain.z"]},
        {"serializer_class": Own, "only_fields": ["whatever"]},
        {"serializer_class": DepositSerializer, "only_fields": ["unit.tags", "tenant.address"]},
        {"versions": {"1": Older, "2": DepositForm}, "only_fields": ["euros", "amount"]},
        {"events": {"paid": Older, "sent": None}},
        {"retention": timedelta(days=1), "previous_attributes": True},
        {"header_descriptions": {"X-A": "a"}, "get_headers": headers},
        {"get_queryset": staticmethod(Deposit.objects.all)},
    ],
)
def test_what_is_right_is_not_minded(attributes: Any) -> None:
    declare(**attributes)

    assert check_features() == []


def test_a_serializer_that_cannot_be_made_is_left_to_its_own_check() -> None:
    declare(serializer_class=Broken, only_fields=["x"])

    assert check_features() == []
    assert [each.id for each in checks.run_checks(tags=["drf_webhooks"])] == ["drf_webhooks.E006"]


def test_a_resource_without_a_model_is_left_to_its_own_check() -> None:
    class Plain(serializers.Serializer[Any]):
        pass

    declare(serializer_class=Plain, only_fields=["x"])

    assert check_features() == []


@pytest.mark.parametrize(
    ("chosen", "declared", "said"),
    [
        ("3", {"1": Older, "2": DepositForm}, ["drf_webhooks.E344"]),
        ("1", {"1": Older, "2": DepositForm}, []),
        ("1", {}, ["drf_webhooks.E344"]),
        (None, {}, []),
    ],
)
def test_the_default_version_must_be_there(chosen: Any, declared: Any, said: list[str]) -> None:
    declare(versions=declared)

    with override_settings(DRF_WEBHOOKS={"DEFAULT_VERSION": chosen}):
        assert [each.id for each in check_features()] == said


def test_settings_that_are_none_are_left_to_their_own_check() -> None:
    with override_settings(DRF_WEBHOOKS={"DEFAULT_VERSION": 1}):
        assert check_features() == []


@pytest.mark.django_db
def test_endpoints_on_a_version_that_is_no_more_are_named() -> None:
    with registry.isolated():
        declare(versions={"1": Older, "2": DepositForm})
        for version in ("1", "2"):
            Endpoint.objects.create(url="https://x.example/", event_types=["*"], version=version)
    declare(versions={"2": DepositForm})

    (message,) = check_pinned(databases=["default"])

    assert message.id == "drf_webhooks.W340"
    assert "pinned to the version '1'" in message.msg
    assert check_pinned() == []


def test_a_database_that_has_none_of_our_tables_is_not_asked(settings: Any) -> None:
    class Elsewhere:
        def allow_migrate(self, *_: Any, **__: Any) -> bool:
            return False

    settings.DATABASE_ROUTERS = [Elsewhere()]

    assert check_pinned(databases=["default"]) == []


@pytest.mark.django_db
def test_without_tables_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise DatabaseError

    monkeypatch.setattr(type(Endpoint.objects), "using", refuse)

    assert check_pinned(databases=["default"]) == []


def test_a_resource_says_how_its_messages_look() -> None:
    webhook: type[ModelSerializerWebhook] = declare(
        versions={"1": Older, "2": DepositForm},
        events={"paid": Open, "sent": None},
        previous_attributes=True,
    )
    front = {
        "type": True,
        "timestamp": True,
        "sequence": True,
        "replay": False,
        "version": True,
        "thin": False,
    }

    def shape(name: str, version: str | None = None) -> MessageShape:
        return webhook.shape_of(f"core.deposit.{name}", version)

    more = {**front, "previous_attributes": False}
    assert shape("updated") == MessageShape(
        "core.deposit.updated", "2", DepositForm, is_key_only=False, members=more
    )
    assert shape("created", "1") == MessageShape(
        "core.deposit.created", "1", Older, is_key_only=False, members=front
    )
    assert (shape("created", "").version, shape("created", "1.5").version) == ("1", "1")
    assert shape("deleted").is_key_only
    assert (shape("paid").serializer_class, shape("sent", "1").serializer_class) == (Open, Older)
    with pytest.raises(ValueError, match=r"has no event type 'core\.deposit\.x'"):
        shape("x")


def test_a_thin_resource_says_so() -> None:
    webhook = declare(thin=True)

    shape = webhook.shape_of("core.deposit.created")

    assert shape.is_key_only
    assert shape.members["thin"] is True
    assert "version" not in shape.members


def test_versions_may_say_which_serializer_it_is() -> None:
    class Webhook(ModelSerializerWebhook):
        versions: ClassVar = {"10": DepositForm, "9": Older}

    class Unchanged(Webhook):
        base_name = "core.other"

    assert Webhook.serializer_class is DepositForm
    assert Webhook.base_name == "core.deposit"
    assert Unchanged.serializer_class is DepositForm


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_what_a_resource_has_of_its_own_may_be_of_either_kind(kind: Any) -> None:
    names = ("condition", "get_headers", "get_owner", "get_serializer_context")

    webhook = declare(**dict.fromkeys(names, kind(lambda *_: None)))

    assert check_features() == []
    own = [webhook.has_condition(), webhook.has_headers(), webhook.is_scoped()]
    assert [*own, webhook.is_addressed()] == [True] * 4


def test_by_default_a_resource_has_neither_a_condition_nor_headers() -> None:
    webhook = declare()

    assert webhook.condition(FormChange("created", None, None, None, {}))
    assert webhook.get_headers("core.deposit.created", None) == {}
    asked = [webhook.has_condition(), webhook.has_headers(), webhook.keeps_forms()]
    assert asked == [False] * 3
