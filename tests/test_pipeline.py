"""Who hears of what, in which form, and what is left to the worker."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.db.models.signals import m2m_changed
from rest_framework import serializers

from drf_webhooks import pipeline, subscriptions
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.pipeline import release_due
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import capture_events
from tests.app.models import Deposit, Document, RentalUnit, Tag, Tenant, User
from tests.app.serializers import DocumentSerializer, TenantSerializer
from tests.factories import make_address, make_deposit, make_user
from tests.test_session import names, said

pytestmark = pytest.mark.django_db(transaction=True)


class DocumentForm(serializers.ModelSerializer[Document]):
    reader = serializers.SerializerMethodField()

    class Meta:
        model = Document
        fields: ClassVar = ["id", "title", "reader"]

    def get_reader(self, _: Document) -> str:
        return str(self.context["reader"])


@pytest.fixture
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


def declare(serializer: Any, **attributes: Any) -> Any:
    return type(
        "SomeWebhook",
        (ModelSerializerWebhook,),
        {"serializer_class": serializer, "base_name": "core.some", **attributes},
    )


def endpoint(owner: User | None = None) -> Endpoint:
    return Endpoint.objects.create(owner=owner, url="https://a.example/", event_types=["*"])


def declare_shared(**attributes: Any) -> None:
    declare(
        DocumentForm,
        get_owner=classmethod(lambda _, document: list(document.readers.all())),
        get_serializer_context=classmethod(
            lambda _, owner=None: {"reader": owner and owner.username}
        ),
        **attributes,
    )


def test_an_object_of_several_owners_is_told_to_each_in_its_form(isolated: None) -> None:
    declare_shared()
    ada, bea, cleo = (make_user(username=name) for name in ("ada", "bea", "cleo"))
    ends = {user.pk: endpoint(user) for user in (ada, bea)}
    document = Document.objects.create(title="Lease")
    document.readers.set([ada, bea, cleo])

    document.save()

    deliveries = Delivery.objects.select_related("event")
    told = {each.endpoint_id: each.event.data["reader"] for each in deliveries}
    assert told == {ends[ada.pk].pk: "ada", ends[bea.pk].pk: "bea"}
    assert len({each.event.sequence for each in deliveries}) == 1


@pytest.mark.parametrize("in_session", [True, False])
def test_each_owner_hears_of_the_end_in_its_form(isolated: None, *, in_session: bool) -> None:
    declare_shared(deleted_payload="full")
    ada, bea = make_user(username="ada"), make_user(username="bea")
    endpoint(ada), endpoint(bea)
    with disable_webhooks():
        document = Document.objects.create(title="Lease")
        document.readers.set([ada, bea])

    if in_session:
        with webhook_signal_session():
            document.delete()
    else:
        document.delete()

    assert sorted(data["reader"] for _, data in said("core.some")) == ["ada", "bea"]
    assert names("core.some") == ["deleted", "deleted"]


def test_each_owner_hears_which_one_is_gone_by_a_session_that_goes_on(isolated: None) -> None:
    declare_shared()
    ada, bea = make_user(username="ada"), make_user(username="bea")
    ends = endpoint(ada), endpoint(bea)
    with disable_webhooks():
        document = Document.objects.create(title="Lease")
        document.readers.set([ada, bea])
    pk = document.pk

    with webhook_signal_session():
        document.delete()

    assert said("core.some") == [("deleted", {"id": str(pk)})] * 2
    told = Delivery.objects.values_list("endpoint", "event__owner")
    assert set(told) == {(each.pk, each.owner_id) for each in ends}


def test_a_whole_form_may_be_kept_of_what_is_deleted(isolated: None) -> None:
    declare(TenantSerializer, deleted_payload="full")
    endpoint()
    with disable_webhooks():
        tenant = Tenant.objects.create(name="Ada", address=make_address(), user=make_user())

    tenant.delete()

    ((name, data),) = said("core.some")
    assert (name, data["name"]) == ("deleted", "Ada")


def test_a_scoped_delete_by_hand_finds_its_owner(isolated: None) -> None:
    resource = declare(DocumentSerializer, get_owner=classmethod(lambda _, document: document.user))
    ada = make_user(username="ada")
    endpoint(ada)
    with disable_webhooks():
        document = Document.objects.create(title="Lease", user=ada)

    resource.trigger(document, "deleted")

    assert said("core.some") == [("deleted", {"id": str(document.pk)})]


def test_an_owner_may_be_a_key(isolated: None) -> None:
    declare(DocumentSerializer, get_owner=classmethod(lambda _, document: document.user_id))
    ada = make_user(username="ada")
    endpoint(ada)

    Document.objects.create(title="Lease", user=ada)

    assert Delivery.objects.count() == 1


def test_a_deferred_resource_is_serialized_by_the_worker_once(isolated: None) -> None:
    declare(TenantSerializer, serialize="deferred")
    endpoint()
    tenant = Tenant.objects.create(name="Ada")
    tenant.name = "Bea"
    tenant.save()
    assert names("core.some") == []

    assert release_due() == 2
    assert [(name, data["name"]) for name, data in said("core.some")] == [("created", "Bea")]
    assert Delivery.objects.count() == 1
    assert release_due() == 0


def test_a_deferred_object_that_is_gone_meanwhile_is_only_deleted(isolated: None) -> None:
    declare(TenantSerializer, serialize="deferred")
    endpoint()
    Tenant.objects.create(name="Ada").delete()

    release_due()

    assert names("core.some") == ["deleted"]


def test_a_deferred_resource_in_a_session(isolated: None) -> None:
    declare(TenantSerializer, serialize="deferred")
    with capture_events() as events, webhook_signal_session():
        tenant = Tenant.objects.create(name="Ada")
        tenant.save()

    assert [(each.type, each.data["name"]) for each in events] == [("core.some.created", "Ada")]


def test_held_events_of_a_resource_that_is_gone_are_parked(
    isolated: None, caplog: pytest.LogCaptureFixture
) -> None:
    declare(TenantSerializer, serialize="deferred")
    endpoint()
    Tenant.objects.create(name="Ada")

    with registry.isolated():
        release_due()

    event = Event.objects.get()
    assert "No resource is named 'core.some' any more." in event.error
    assert (event.held_until, event.body) == (None, None)
    assert "is parked" in caplog.text


def test_a_deferred_object_that_cannot_be_serialized_is_parked_whatever_is_set(
    isolated: None, settings: Any
) -> None:
    settings.DRF_WEBHOOKS = {"ON_PAYLOAD_ERROR": "raise"}
    declare(DocumentForm, serialize="deferred")
    endpoint()
    Document.objects.create(title="Lease")

    assert release_due() == 1

    assert "KeyError: 'reader'" in Event.objects.get().error


@pytest.mark.parametrize("operation", ["create", "update", "delete"])
def test_operations_may_be_left_unsaid(isolated: None, operation: str) -> None:
    declare(TenantSerializer, **{operation: False})
    endpoint()
    tenant = Tenant.objects.create(name="Ada")
    tenant.save()
    tenant.delete()

    assert [f"{operation}d"] == [
        name for name in ("created", "updated", "deleted") if name not in names("core.some")
    ]


def test_what_get_queryset_leaves_out_is_not_said(isolated: None) -> None:
    declare(
        TenantSerializer,
        get_queryset=classmethod(lambda _: Tenant.objects.exclude(name="secret")),
    )
    endpoint()
    Tenant.objects.create(name="secret")
    Tenant.objects.create(name="Ada")

    assert [data["name"] for _, data in said("core.some")] == ["Ada"]


def test_absolute_urls_need_a_base_url(isolated: None, settings: Any) -> None:
    class Linked(serializers.ModelSerializer[Tenant]):
        link = serializers.SerializerMethodField()

        class Meta:
            model = Tenant
            fields: ClassVar = ["id", "link"]

        def get_link(self, _: Tenant) -> str | None:
            request = self.context["request"]
            return str(request.build_absolute_uri("/x/")) if request else None

    declare(Linked)
    endpoint()
    Tenant.objects.create(name="Ada")
    settings.DRF_WEBHOOKS = {"BASE_URL": "https://api.example.com"}
    Tenant.objects.create(name="Bea")
    Tenant.objects.create(name="Cleo")

    assert [data["link"] for _, data in said("core.some")] == [
        None,
        "https://api.example.com/x/",
        "https://api.example.com/x/",
    ]


def test_a_form_without_its_key_names_it_by_the_model(isolated: None) -> None:
    class Nameless(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields: ClassVar = ["name"]

    declare(Nameless)
    endpoint()
    tenant = Tenant.objects.create(name="Ada")
    pk = tenant.pk
    tenant.delete()

    assert said("core.some")[-1] == ("deleted", {"id": pk})


def test_a_large_message_is_warned_of(
    everything: Endpoint, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DRF_WEBHOOKS = {"PAYLOAD_WARN_BYTES": 10}
    make_deposit()

    assert "has a message of" in caplog.text


def test_many_endpoints_are_asked_type_by_type(
    monkeypatch: pytest.MonkeyPatch, everything: Endpoint
) -> None:
    monkeypatch.setattr(subscriptions, "_MOST_LISTS", 0)
    make_deposit()
    Endpoint.objects.update(event_types=["core.deposit.deleted"])
    make_deposit()

    assert names() == ["created"]


def test_many_endpoints_of_owners_are_asked_type_by_type(
    monkeypatch: pytest.MonkeyPatch, isolated: None
) -> None:
    monkeypatch.setattr(subscriptions, "_MOST_LISTS", 0)
    declare_shared()
    ada, bea = make_user(username="ada"), make_user(username="bea")
    endpoint(ada)
    with disable_webhooks():
        document = Document.objects.create(title="Lease")
        document.readers.set([ada, bea])

    document.save()

    ((name, data),) = said("core.some")
    assert (name, data["reader"]) == ("updated", "ada")


def test_a_database_without_returning_reads_its_numbers_back(
    monkeypatch: pytest.MonkeyPatch, everything: Endpoint
) -> None:
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    make_deposit().save()

    events = Event.objects.filter(resource="core.deposit")
    assert sorted(each.sequence or 0 for each in events) == [1, 2]


def test_more_objects_than_one_query_takes(everything: Endpoint) -> None:
    with disable_webhooks():
        tenant = make_deposit().tenant
        Deposit.objects.bulk_create([Deposit(tenant=tenant) for _ in range(600)])
    tenant.save()
    with webhook_signal_session():
        for deposit in Deposit.objects.all():
            deposit.save()
    with transaction.atomic():
        tenant.delete()

    assert names().count("updated") == 1202
    assert names().count("deleted") == 601
    assert Delivery.objects.filter(event__resource="core.deposit").count() == 1803


def test_fixtures_record_nothing_unless_asked(everything: Endpoint, settings: Any) -> None:
    deposit = make_deposit()
    Event.objects.all().delete()
    deposit.save_base(raw=True)
    assert names() == []

    settings.DRF_WEBHOOKS = {"RECORD_RAW": True}
    deposit.save_base(raw=True)
    assert names() == ["updated"]


def test_links_of_fixtures_record_nothing_either(everything: Endpoint) -> None:
    unit, tag = make_deposit().unit, Tag.objects.create(name="new")
    Event.objects.all().delete()
    # Django 6.1 says so itself; before, nobody can tell.
    m2m_changed.send(
        sender=RentalUnit.tags.through,
        instance=unit,
        action="post_add",
        reverse=False,
        model=Tag,
        pk_set={tag.pk},
        using="default",
        raw=True,
    )

    assert names() == []


def test_a_row_that_is_both_base_and_nested(isolated: None) -> None:
    class TagOfUnits(serializers.ModelSerializer[Tag]):
        class Meta:
            model = Tag
            fields: ClassVar = ["id", "name"]

    declare(TagOfUnits)
    endpoint()
    with webhook_signal_session() as session:
        tag = Tag.objects.bulk_create([Tag(name="new")])[0]
        stored = Tag.objects.get(name="new")
        session.created(stored)
        session.updated(stored)

    assert tag.name == "new"
    assert said("core.some") == [("created", {"id": stored.pk, "name": "new"})]


def test_captured_events_of_owned_objects_need_no_endpoint(isolated: None) -> None:
    declare(DocumentSerializer, get_owner=classmethod(lambda _, document: document.user))
    ada = make_user(username="ada")
    with capture_events() as events:
        Document.objects.create(title="Lease", user=ada)

    assert [(each.type, each.owner_id) for each in events] == [("core.some.created", ada.pk)]


def test_a_capture_in_a_broken_transaction_asks_nothing() -> None:
    with transaction.atomic(), capture_events() as events:
        make_deposit()
        transaction.set_rollback(True)

    assert events == []


def test_the_worker_releases_in_lots(isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHUNK", 2)
    declare(TenantSerializer, serialize="deferred")
    endpoint()
    for name in "abc":
        Tenant.objects.create(name=name)

    assert release_due() == 3
    assert len(names("core.some")) == 3


def test_what_was_kept_of_a_deleted_object_survives_its_savepoint(isolated: None) -> None:
    declare(TenantSerializer, deleted_payload="full")
    endpoint()
    with disable_webhooks():
        tenant = Tenant.objects.create(name="Ada", address=make_address(), user=make_user())

    with transaction.atomic():
        tenant.save()
        with transaction.atomic():
            tenant.delete()

    ((name, data),) = said("core.some")
    assert (name, data["name"]) == ("deleted", "Ada")
