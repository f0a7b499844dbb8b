"""Attacks: an owner that knows every key of another one's comes to nothing."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Q
from django.utils import timezone

from drf_webhooks import endpoints, replay
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.outbox import write_to
from drf_webhooks.owners import Owned
from drf_webhooks.scoping import may_hear
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now, isolated_registry
from drf_webhooks.utils import ModelSerializerWebhook
from tests.app.models import Document
from tests.app.serializers import DocumentSerializer
from tests.factories import make_user
from tests.world import Part, everything_of, make_part

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security]

Attack = Callable[[Owned, Part], Any]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def lately() -> replay.Span:
    return replay.span(timezone.now() - timedelta(days=1), using="default")


def refused(act: Callable[[], Any]) -> list[Any]:
    """Return nothing, as a query that finds nothing, if a key is one of nobody."""
    with pytest.raises(ObjectDoesNotExist):
        act()
    return []


#: What ada tries with the keys of bea, and what comes of it: nothing.
ATTACKS: dict[str, Attack] = {
    "read the endpoint": lambda me, of: me.endpoints.filter(pk=of.endpoint.pk),
    "read the endpoint by its URL": lambda me, of: me.endpoints.filter(url=of.endpoint.url),
    "read the endpoint by or": lambda me, of: me.endpoints.filter(
        Q(pk=of.endpoint.pk) | Q(owner=of.owner)
    ),
    "change the endpoint": lambda me, of: range(
        me.endpoints.filter(pk=of.endpoint.pk).update(url="https://evil.example/")
    ),
    "delete the endpoint": lambda me, of: range(me.endpoints.filter(pk=of.endpoint.pk).delete()[0]),
    "read the event": lambda me, of: me.events.filter(pk=of.event.pk),
    "read the event as one for all": lambda me, of: Event.objects.audible_to(me.owner).filter(
        pk=of.event.pk
    ),
    "read the delivery": lambda me, of: me.deliveries.filter(pk=of.delivery.pk),
    "read the deliveries of the endpoint": lambda me, of: me.deliveries.filter(
        endpoint=of.endpoint
    ),
    "read the delivery by its event": lambda me, of: me.deliveries.filter(event=of.event),
    "read the attempt": lambda me, of: me.attempts.filter(pk=of.attempt.pk),
    "read the notice": lambda me, of: me.notices.filter(pk=of.notice.pk),
    "enable": lambda me, of: refused(lambda: me.enable(of.endpoint.pk)),
    "disable": lambda me, of: refused(lambda: me.disable(of.endpoint.pk, "evil")),
    "send a test": lambda me, of: refused(lambda: me.send_test(of.endpoint.pk)),
    "send again": lambda me, of: range(me.send_again([of.delivery.pk])),
    "say anew": lambda me, of: range(me.send_again([of.delivery.pk], is_anew=True)),
    "send again on the queryset": lambda me, of: range(
        me.deliveries.filter(pk=of.delivery.pk).send_again()
    ),
    "replay to the endpoint": lambda me, of: refused(
        lambda: me.replay_missing(of.endpoint.pk, lately())
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("victim", ["bea", None], ids=["another's", "nobody's"])
def test_f73_f76_every_key_of_another_is_as_one_of_nobody(name: str, victim: str | None) -> None:
    mine, theirs = make_part("ada"), make_part(victim)
    before = everything_of(theirs)

    assert list(ATTACKS[name](mine.owned, theirs)) == (
        # An event without an owner is for everybody.
        [theirs.event] if name == "read the event as one for all" and victim is None else []
    )

    assert everything_of(theirs) == before
    assert Event.objects.count() == Delivery.objects.count() == 2


@pytest.mark.parametrize("name", ATTACKS)
def test_f76_each_attack_is_of_use_for_ones_own(name: str) -> None:
    mine = make_part("ada")

    if "refused" in ATTACKS[name].__code__.co_names:
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            ATTACKS[name](mine.owned, mine)
        return
    with disable_webhooks():
        Document.objects.create(pk="00000000-0000-0000-0000-000000000001", user=mine.owner)
    Event.objects.update(object_key='"00000000-0000-0000-0000-000000000001"')
    assert list(ATTACKS[name](mine.owned, mine))


@pytest.mark.parametrize(
    "nobody", [None, AnonymousUser(), Endpoint._meta.get_field("owner").related_model()]
)
def test_f73_nobody_owns_nothing_not_even_what_has_no_owner(nobody: Any) -> None:
    make_part(None), make_part("ada")
    me = Owned(nobody)

    for rows in (me.endpoints, me.events, me.deliveries, me.attempts, me.notices):
        assert not rows.exists()
    with pytest.raises(ValueError, match="Nobody cannot own an endpoint"):
        me.create_endpoint(url="https://a.example/", event_types=["*"])
    # Of what is for everybody it hears as all do.
    assert [each.owner for each in Event.objects.audible_to(nobody)] == [None]


def test_f73_replay_sends_only_what_died_of_ones_own() -> None:
    mine, theirs = make_part("ada"), make_part("bea")

    lots = list(mine.owned.replay_failed(lately()))

    assert sum(each.replayed for each in lots) == 1
    mine.delivery.refresh_from_db()
    theirs.delivery.refresh_from_db()
    assert (mine.delivery.state, theirs.delivery.state) == ("waiting", "dead")


def test_f73_a_replay_of_what_was_missed_brings_ones_own_and_what_is_for_all() -> None:
    mine, theirs, public = make_part("ada"), make_part("bea"), make_part(None)
    Delivery.objects.all().delete()

    list(mine.owned.replay_missing(mine.endpoint.pk, lately()))

    heard = set(Delivery.objects.filter(endpoint=mine.endpoint).values_list("event", flat=True))
    assert heard == {mine.event.pk, public.event.pk}
    assert theirs.event.pk not in heard


@pytest.mark.parametrize("is_anew", [False, True])
def test_f73_a_replay_tells_nobody_of_an_endpoint_that_has_no_owner(*, is_anew: bool) -> None:
    mine, nobodys = make_part("ada"), make_part(None)
    Event.objects.all().delete()
    endpoints.send_test(nobodys.endpoint)

    list(mine.owned.replay_missing(mine.endpoint.pk, lately(), is_anew=is_anew))

    assert not mine.owned.deliveries.exists()


def test_f73_wildcards_and_null_owners_hear_of_no_owners_objects() -> None:
    with WebhookReceiver() as receiver:
        ada, bea = make_user(username="ada"), make_user(username="bea")
        for owner, path in ((ada, "ada"), (bea, "bea"), (None, "nobody")):
            for types in (["*"], ["core.*"], ["core.document.*"], ["core.document.created"]):
                Endpoint.objects.create(owner=owner, url=f"{receiver.url}{path}", event_types=types)
        Document.objects.create(title="Ada's", user=ada)
        Document.objects.create(title="Nobody's", user=None)
        deliver_now()

    # Not only refused when it is sent: the fan-out makes no delivery.
    assert Delivery.objects.count() == 4
    assert [each.path for each in receiver.requests] == ["/ada"] * 4
    assert {each.json["data"]["title"] for each in receiver.requests} == {"Ada's"}


def test_f73_a_shared_object_is_told_to_each_of_its_owners_in_its_form_only() -> None:
    ada, bea, eve = (make_user(username=name) for name in ("ada", "bea", "eve"))
    with isolated_registry(), WebhookReceiver() as receiver:
        for owner in (ada, bea, eve, None):
            path = owner.username if owner else "nobody"
            Endpoint.objects.create(owner=owner, url=f"{receiver.url}{path}", event_types=["*"])

        class Form(DocumentSerializer):
            def to_representation(self, instance: Document) -> dict[str, Any]:
                data: dict[str, Any] = super().to_representation(instance)
                return {**data, "for": self.context["for"]}

        class Shared(ModelSerializerWebhook):
            serializer_class = Form
            base_name = "shared"

            @classmethod
            def get_owner(cls, instance: Document) -> Any:
                return list(instance.readers.all())

            @classmethod
            def get_serializer_context(cls, owner: Any = None) -> dict[str, Any]:
                return {"for": owner and owner.username}

        with disable_webhooks():
            document = Document.objects.create(title="Lease")
            document.readers.set([ada, bea])
        document.save()
        deliver_now()

    told = {each.path: each.json["data"]["for"] for each in receiver.requests}
    assert told == {"/ada": "ada", "/bea": "bea"}


def test_f73_an_owner_is_told_what_it_may_see_now_by_a_serializer_that_is_kept() -> None:
    ada = make_user(username="ada", is_staff=True)
    Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])
    with isolated_registry():

        class Form(DocumentSerializer):
            def get_fields(self) -> dict[str, Any]:
                fields = super().get_fields()
                if not self.context["viewer"].is_staff:
                    del fields["title"]
                return fields

        class Guarded(ModelSerializerWebhook):
            serializer_class = Form
            base_name = "guarded"

            @classmethod
            def get_owner(cls, instance: Document) -> Any:
                return instance.user

            @classmethod
            def get_serializer_context(cls, owner: Any = None) -> dict[str, Any]:
                return {"viewer": owner or type(ada)()}

        document = Document.objects.create(title="Lease", user=ada)
        type(ada).objects.update(is_staff=False)
        Document.objects.get(pk=document.pk).save()

    shown = ["title" in each.data for each in Event.objects.order_by("sequence")]
    assert shown == [True, False]


def test_a_form_that_no_owner_changes_is_made_once_for_all_of_them() -> None:
    owners = [make_user(username=name) for name in ("ada", "bea", "cleo")]
    for each in owners:
        Endpoint.objects.create(owner=each, url="https://a.example/", event_types=["*"])
    made = []
    with isolated_registry():

        class Form(DocumentSerializer):
            def to_representation(self, instance: Document) -> dict[str, Any]:
                made.append(instance.pk)
                data: dict[str, Any] = super().to_representation(instance)
                return data

        class Shared(ModelSerializerWebhook):
            serializer_class = Form
            base_name = "shared"

            @classmethod
            def get_owner(cls, instance: Document) -> Any:
                return owners

        Document.objects.create(title="Lease")

    assert len(made) == 1
    assert Delivery.objects.count() == len(owners)


def test_f73_what_came_to_the_wrong_endpoint_is_refused_when_it_is_sent() -> None:
    with WebhookReceiver() as receiver:
        mine, theirs = make_part("ada"), make_part("bea")
        Endpoint.objects.filter(pk=mine.endpoint.pk).update(url=receiver.url)
        Delivery.objects.filter(pk=theirs.delivery.pk).update(
            endpoint=mine.endpoint, state="waiting", due_at=timezone.now() - timedelta(hours=1)
        )
        deliver_now()

    theirs.delivery.refresh_from_db()
    assert receiver.requests == []
    assert theirs.delivery.reason == "The endpoint's owner does not own the object."
    assert not mine.owned.deliveries.filter(pk=theirs.delivery.pk).exists()


def test_one_rule_in_sql_in_the_orm_and_in_python() -> None:
    parts = [make_part("ada"), make_part("bea"), make_part(None)]
    for event in [each.event for each in parts]:
        for part in parts:
            owner = part.owner and part.owner.pk
            is_audible = Event.objects.audible_to(part.owner).filter(pk=event.pk).exists()
            assert is_audible is may_hear(event.owner_id, owner)


def test_what_is_written_to_an_endpoint_is_seen_by_its_owner_only() -> None:
    mine, theirs = make_part("ada"), make_part("bea")
    event = Event(
        type="a.b", resource="a", object_key="1", body=b'{"data":1}', created_at=timezone.now()
    )
    write_to(event, [theirs.endpoint.pk], "default")

    assert mine.owned.deliveries.filter(event=event).count() == 0
    assert theirs.owned.deliveries.filter(event=event).count() == 1
