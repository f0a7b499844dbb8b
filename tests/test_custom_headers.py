"""Custom headers: what may be one, and that their values stay secret."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.serializers import deserialize, serialize
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from drf_webhooks.custom_headers import MASK, masked, parse, validate
from drf_webhooks.fields import HeadersFormField
from drf_webhooks.models import Endpoint
from drf_webhooks.testing import WebhookReceiver
from tests.delivery.sending import send_all

URL = "https://a.example/"
SECRET = "s3cret-value"  # noqa: S105  # the point


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param({"X-A": f"{SECRET}\r\nX-B: c"}, "HTTP does not allow", id="C46-crlf"),
        pytest.param({"X-A": f"{SECRET}\n"}, "HTTP does not allow", id="C46-lf"),
        pytest.param({"X-A": f"{SECRET}\0"}, "HTTP does not allow", id="C46-nul"),
        pytest.param({"X-A": f"{SECRET} "}, "HTTP does not allow", id="C46-space-at-the-end"),
        pytest.param({"X-A": f"{SECRET}é"}, "HTTP does not allow", id="C46-not-ascii"),
        pytest.param({"X-A": ""}, "has no value", id="C46-empty"),
        pytest.param({"X-A": 5}, "has no value", id="C46-a-number"),
        pytest.param({"X-A\r\nX-B": SECRET}, "is no name", id="C46-crlf-in-a-name"),
        pytest.param({"X A": SECRET}, "is no name", id="C46-space-in-a-name"),
        pytest.param({"": SECRET}, "is no name", id="C46-no-name"),
        pytest.param({5: SECRET}, "is no name", id="C46-a-name-that-is-no-text"),
        pytest.param({"x" * 101: SECRET}, "is no name", id="C46-a-long-name"),
        pytest.param({"X-A": "v" * 4097}, "Allowed are 4096", id="C46-a-long-value"),
        pytest.param(
            {f"X-{number}": "v" * 3500 for number in range(2)},
            "together. Allowed are 6144",
            id="C46-long-together",
        ),
        pytest.param({f"X-{number}": "v" for number in range(21)}, "At most 20", id="C46-too-many"),
        pytest.param({"X-A": SECRET, "x-a": SECRET}, "is there twice", id="C46-twice"),
        pytest.param([("X-A", SECRET)], "are a dict", id="C46-no-dict"),
        *(
            pytest.param({name: SECRET}, "is set by the library", id=f"C46-{name}")
            for name in (
                "Host",
                "content-length",
                "Transfer-Encoding",
                "Connection",
                "Content-Type",
                "Accept-Encoding",
                "Expect",
                "webhook-id",
                "Webhook-Signature",
                "webhook-anything",
                "Proxy-Authorization",
            )
        ),
    ],
)
def test_what_must_not_be_sent_is_refused_at_save(headers: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Endpoint(url=URL, event_types=["*"], headers=headers).save()

    assert said in " ".join(refused.value.messages)
    assert SECRET not in " ".join(refused.value.messages)
    with pytest.raises(ValidationError):
        Endpoint(url=URL, event_types=["*"], headers=headers).clean_fields(exclude=["owner"])


def is_allowed(headers: dict[str, str]) -> bool:
    try:
        validate(headers)
    except ValidationError:
        return False
    return True


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
tokens = st.text("abcXYZ019-_!~", min_size=1, max_size=8)


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.one_of(tokens, texts), st.one_of(tokens, texts), max_size=4).filter(
        is_allowed
    )
)
def test_what_is_allowed_arrives_as_it_is(
    receiver: WebhookReceiver, headers: dict[str, str]
) -> None:
    """C46: no value ends its header, and none is changed on the way."""
    receiver.requests.clear()

    (sent,) = send_all([receiver.url], headers=headers)

    assert sent.answer.status == 200
    (request,) = receiver.requests
    arrived = dict(request.headers)
    assert {name.lower(): value for name, value in headers.items()}.items() <= arrived.items()
    assert set(arrived) - {name.lower() for name in headers} <= {
        "host",
        "content-length",
        "content-type",
    }


@given(st.dictionaries(tokens, tokens, max_size=5))
def test_lines_are_read_as_they_are_written(headers: dict[str, str]) -> None:
    text = "\n\n".join(f"{name} : {value}\r" for name, value in headers.items())

    assert parse(text) == headers
    assert parse(masked(headers)) == dict.fromkeys(headers, MASK)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"X-A: 1\n{SECRET}", "Line 2 of the headers has no colon"),
        (f"X-A: {SECRET}\nX-A: {SECRET}", "'X-A' is there twice"),
    ],
)
def test_lines_that_are_no_headers(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        parse(text)

    assert SECRET not in str(refused.value)


def test_a_masked_value_stays_what_it_was() -> None:
    field = HeadersFormField()
    before = {"X-A": SECRET}

    assert field.kept(f"X-A: {MASK}\nX-B: new", before) == {"X-A": SECRET, "X-B": "new"}
    assert field.kept("", before) == {}
    with pytest.raises(ValidationError, match="'X-C' has no value yet"):
        field.kept(f"X-C: {MASK}", before)


@pytest.mark.django_db
def test_headers_are_kept_and_copied() -> None:
    headers = {"X-A": SECRET, "Authorization": "Bearer x"}
    endpoint = Endpoint.objects.create(url=URL, event_types=["*"], headers=headers)
    bare = Endpoint.objects.create(url=URL, event_types=["*"])

    assert Endpoint.objects.get(pk=endpoint.pk).headers == headers
    assert Endpoint.objects.get(pk=bare.pk).headers == {}
    for each in (endpoint, bare):
        (copied,) = deserialize("json", serialize("json", [each]))
        assert vars(copied.object)["headers"] == each.headers


@pytest.mark.django_db
def test_processes_of_the_version_before_go_on_making_rows() -> None:
    """The columns have defaults in the database: what inserts without them works."""
    endpoint = Endpoint.objects.create(url=URL, event_types=["*"], headers={"X-A": "1"})
    new = {"method", "format", "headers"}
    old = [field.column for field in Endpoint._meta.concrete_fields if field.name not in new]
    columns = ", ".join(map(connection.ops.quote_name, old))
    values = columns.replace(connection.ops.quote_name("id"), "%s")
    table = Endpoint._meta.db_table
    other = Endpoint(id=uuid.uuid4())
    pk = Endpoint._meta.pk.get_db_prep_value(other.pk, connection)

    with connection.cursor() as cursor:
        statement = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table}"  # noqa: S608  # our names
        cursor.execute(statement, [pk])

    made = Endpoint.objects.get(pk=other.pk)
    assert made.url == endpoint.url
    assert (made.method, made.format, made.headers) == ("POST", "json", {})
