"""Rows as JSON: the same by each writer, and nothing in it that a database refuses."""

import datetime as dt
import gc
import json
import threading
import uuid
import weakref
from datetime import UTC, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import QuerySet
from django.test import override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.delivery.formats import Format, Message
from drf_webhooks.delivery.rows import Prepared, Writer, as_json, json_writer
from drf_webhooks.delivery.subscribers import subscribers
from drf_webhooks.encryption import opened
from drf_webhooks.exceptions import FormatError
from drf_webhooks.models import Attempt, Endpoint, EndpointHealth
from drf_webhooks.testing import deliver_now
from tests.delivery.test_health_rows import make_endpoint, make_waiting

plain = json_writer(lambda _: None)
# Of any character, and often of those that are no text.
texts = st.text(st.sampled_from(["\0", "\ud800", "\udfff", "\\", "u"]) | st.characters())
values = (
    texts
    | st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary()
    | st.timedeltas(timedelta(days=-999), timedelta(days=999))
    | st.datetimes(timezones=st.sampled_from([UTC, dt.timezone(timedelta(hours=5, minutes=30))]))
    | st.lists(st.lists(texts, min_size=2, max_size=2), max_size=3)
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), values), max_size=4))
def test_each_writer_writes_the_same(rows: list[dict[str, object]]) -> None:
    pytest.importorskip("orjson")

    assert json.loads(as_json(rows)) == json.loads(as_json(rows, write=plain))


@given(texts)
@pytest.mark.parametrize("write", [json_writer(), plain])
def test_no_text_has_what_a_database_refuses(write: Writer, text: str) -> None:
    ((read,),) = [each.values() for each in json.loads(as_json([{"a": text}], write=write))]

    read.encode()
    assert "\0" not in read
    assert len(read) == len(text)


class Odd(Format):
    """Fails as what reads a file does whose name is no UTF-8."""

    content_type = "text/plain"

    def write(self, message: Message) -> bytes:
        raise FormatError("no such file: \udcff\N{SNOWMAN}")


@pytest.mark.django_db(transaction=True)
def test_what_is_no_text_in_the_reason_of_a_failure_is_stored_all_the_same() -> None:
    formats = {"odd": f"{Odd.__module__}.Odd"}
    with override_settings(DRF_WEBHOOKS={"FORMATS": formats}):
        make_waiting(make_endpoint(format="odd"), 1)

        assert deliver_now() == 1

    attempt = Attempt.objects.get()
    assert (attempt.error, attempt.detail) == ("format_error", "no such file: ?\N{SNOWMAN}")


@pytest.mark.django_db
def test_a_query_is_compiled_once_where_keys_are_one_parameter() -> None:
    first, second = make_endpoint(), make_endpoint()
    asked: list[str] = []

    def select(using: str) -> QuerySet[Endpoint, Any]:
        asked.append(using)
        return Endpoint.objects.using(using).values_list("pk", "url")

    prepared = Prepared(select)
    for some in ([first], [first, second], []):
        keys = [each.pk for each in some]
        found = set(prepared.among([*keys, uuid.uuid4()], using="default"))
        assert found == {(each.pk, each.url) for each in some}

    assert len(asked) == (1 if connection.vendor == "postgresql" else 3)


@pytest.mark.django_db(transaction=True)
def test_what_is_compiled_once_keeps_no_connection_of_a_thread_that_has_ended() -> None:
    prepared = Prepared(lambda using: Endpoint.objects.using(using).values_list("pk", "url"))
    kept: list[weakref.ref[object]] = []

    def ask() -> None:
        assert not list(prepared.among([uuid.uuid4()], using="default"))
        kept.append(weakref.ref(connections["default"]))
        connections.close_all()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    gc.collect()

    assert [each() for each in kept] == [None]


@pytest.mark.django_db
def test_what_is_compiled_once_tells_what_is_so_now() -> None:
    one, other = make_endpoint(overrides={"RETRY_SCHEDULE": [5]}), make_endpoint()
    before = subscribers({one.pk, other.pk}, using="default")
    EndpointHealth.objects.update_or_create(
        endpoint=one, defaults={"paused_until": timezone.now() + timedelta(hours=1)}
    )
    after = subscribers({one.pk, other.pk}, using="default")

    assert before[one.pk].is_open
    assert not after[one.pk].is_open
    assert after[other.pk].is_open
    assert after[one.pk].overrides == one.overrides
    assert opened(after[one.pk].secret) == one.secret
