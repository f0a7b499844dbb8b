"""F67, F69, F70: who receives verifies what was sent, and nothing breaks the one who asks."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView
from standardwebhooks import Webhook, WebhookVerificationError

from drf_webhooks import secret_keys
from drf_webhooks.delivery.signing import sign, sign_with_all
from drf_webhooks.receiver import TOLERANCE, verified, verify
from tests.test_secret_keys import WHPK, WHSK

pytestmark = pytest.mark.security

#: Of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published
AT = datetime.fromtimestamp(1614265330, tz=UTC)
BODY = b'{"test": 2432232314}'
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SIGNATURE = HEADERS["webhook-signature"]


def holds(body: Any = BODY, headers: Any = HEADERS, keys: Any = SECRET, **more: Any) -> bool:
    found = verify(body, headers, keys, **{"now": AT, **more})
    assert isinstance(found, bool)
    return found


def signed(body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(tz=UTC)
    keys = [secret_keys.decode(each) for each in secrets]
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign_with_all(keys, event_id="evt_1", sent_at=at, body=body),
    }


def test_f67_the_published_vector_is_verified_and_made() -> None:
    made = sign(secret_keys.decode(SECRET), event_id=HEADERS["webhook-id"], sent_at=AT, body=BODY)

    assert made == SIGNATURE
    assert holds()
    assert holds(keys=[secret_keys.generate(), SECRET])
    assert holds(headers={name.upper(): value for name, value in HEADERS.items()})
    assert holds(headers=list(HEADERS.items()))
    assert not holds(keys=secret_keys.generate())
    assert not holds(keys=[])
    assert not holds(body=BODY + b" ")


secrets_ = st.binary(min_size=24, max_size=64).map(
    lambda key: "whsec_" + base64.b64encode(key).decode()
)
ids = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="."), min_size=1
)
#: Our oracle decodes what it signs as text.
bodies = st.text().map(str.encode)


@given(secret=secrets_, other=secrets_, message_id=ids, body=bodies, is_ours=st.booleans())
def test_f67_agrees_with_standardwebhooks(
    secret: str, other: str, message_id: str, body: bytes, *, is_ours: bool
) -> None:
    """Both ways: it takes what we sign, we take what it signs, and both refuse the rest."""
    now = datetime.now(tz=UTC)
    signer = secret if is_ours else other
    theirs = Webhook(signer).sign(message_id, now, body.decode())
    ours = sign(secret_keys.decode(signer), event_id=message_id, sent_at=now, body=body)
    assert ours == theirs
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": ours,
    }

    try:
        Webhook(secret).verify(body, headers, json_parse=False)
        is_taken = True
    except WebhookVerificationError:
        is_taken = False

    assert verify(body, headers, secret) is is_taken is (signer == secret)


@given(st.binary())
def test_f67_ed25519_is_verified_by_the_public_key(body: bytes) -> None:
    headers = signed(body, WHSK)
    (_, other) = (secret_keys.generate("v1a") for _ in range(2))

    assert verify(body, headers, WHPK)
    assert verify(body, headers, WHSK)
    assert verify(body, headers, [SECRET, WHPK])
    assert not verify(body + b"x", headers, WHPK)
    assert not verify(body, headers, other)
    assert not verify(body, headers, SECRET)


def test_a_public_key_is_no_secret() -> None:
    """Who knows the public key, as everybody may, cannot sign with it as if it were a secret."""
    public = base64.b64decode(WHPK.removeprefix("whpk_"))
    forged = "whsec_" + base64.b64encode(public).decode()

    headers = signed(BODY, forged)

    assert verify(BODY, headers, forged)
    assert not verify(BODY, headers, WHPK)
    renamed = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1", "v1a")}
    assert not verify(BODY, renamed, WHPK)


@pytest.mark.parametrize("off", [-1, 1])
def test_f69_a_signature_that_is_replayed_is_refused(off: int) -> None:
    edge = off * TOLERANCE

    assert holds(now=AT + edge)
    assert not holds(now=AT + edge + off * timedelta(seconds=1))
    assert holds(now=AT + timedelta(days=3), tolerance=timedelta(days=3))


def test_f69_a_retry_after_days_has_a_signature_of_its_own() -> None:
    later = AT + timedelta(days=3)
    again = signed(BODY, SECRET, at=later)

    assert holds(headers=again, now=later)
    assert not holds(headers={**again, "webhook-timestamp": "1614265330"}, now=AT)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"webhook-id": None}, id="no id"),
        pytest.param({"webhook-timestamp": None}, id="no timestamp"),
        pytest.param({"webhook-signature": None}, id="no signature"),
        pytest.param({"webhook-id": ""}, id="an empty id"),
        pytest.param({"webhook-id": "msg_ä"}, id="an id that is not ascii"),
        pytest.param({"webhook-id": "a.b"}, id="an id with a full stop"),
        pytest.param({"webhook-id": "a\nb"}, id="an id in two lines"),
        pytest.param({"webhook-id": b"msg"}, id="bytes"),
        pytest.param({"webhook-timestamp": "noon"}, id="a word"),
        pytest.param({"webhook-timestamp": "1614265330.0"}, id="a fraction"),
        pytest.param({"webhook-timestamp": "-1614265330"}, id="below zero"),
        pytest.param({"webhook-timestamp": " 1614265330"}, id="a space"),
        pytest.param({"webhook-timestamp": "\uff11614265330"}, id="other digits"),
        pytest.param({"webhook-timestamp": "9" * 400}, id="a huge number"),
        pytest.param({"webhook-timestamp": "1614265330, 1614265330"}, id="two that were joined"),
        pytest.param({"webhook-timestamp": "nan"}, id="nan"),
        pytest.param({"webhook-signature": ""}, id="an empty signature"),
        pytest.param({"webhook-signature": "v1"}, id="no comma"),
        pytest.param({"webhook-signature": ","}, id="only a comma"),
        pytest.param({"webhook-signature": "v1,"}, id="nothing after the comma"),
        pytest.param({"webhook-signature": SIGNATURE.replace("v1", "v2")}, id="v2"),
        pytest.param({"webhook-signature": SIGNATURE.replace("v1", "V1")}, id="in capitals"),
        pytest.param({"webhook-signature": SIGNATURE.replace("v1", "v1a")}, id="as ed25519"),
        pytest.param({"webhook-signature": SIGNATURE[3:]}, id="no version"),
        pytest.param({"webhook-signature": SIGNATURE + "é"}, id="not ascii"),
        pytest.param({"webhook-signature": SIGNATURE[:-4]}, id="cut"),
        pytest.param({"webhook-signature": SIGNATURE.replace("g0", "%%")}, id="no base64"),
        pytest.param({"webhook-signature": f"{SIGNATURE},{SIGNATURE}"}, id="joined by a comma"),
        pytest.param({"webhook-signature": "\0" * 10}, id="zeros"),
        pytest.param({"webhook-signature": f"{'v1,AA ' * 20}{SIGNATURE}"}, id="too many"),
        pytest.param({"webhook-signature": 5}, id="a number"),
    ],
)
def test_f70_what_is_malformed_is_false_and_no_exception(changed: dict[str, Any]) -> None:
    headers = {**HEADERS, **changed}

    assert not holds(headers={key: value for key, value in headers.items() if value is not None})
    assert not holds(headers=headers, keys=WHPK)


@pytest.mark.parametrize("name", list(HEADERS))
def test_f70_a_header_that_is_there_twice_is_refused(name: str) -> None:
    pairs = list(HEADERS.items())

    assert not holds(headers=[*pairs, (name, HEADERS[name])])
    assert not holds(headers={**HEADERS, name.upper(): "x"})
    assert holds(headers=[*pairs, ("x-other", "1"), ("x-other", "2")])


def test_f70_a_valid_signature_is_found_among_others() -> None:
    for around in ("v2,abc {}", "v1 {} v1,%%%", "x,y,z {}", "  {}  ", "v1,AAAA {}", "v1a,AAAA {}"):
        assert holds(headers={**HEADERS, "webhook-signature": around.format(SIGNATURE)})
    assert holds(headers={**HEADERS, "webhook-signature": f"{'v1,AA ' * 19}{SIGNATURE}"})


anything = st.one_of(st.text(), st.binary(), st.none(), st.integers())


@given(
    st.binary(),
    st.one_of(
        st.dictionaries(st.one_of(st.sampled_from(list(HEADERS)), anything), anything),
        st.lists(st.tuples(st.one_of(st.sampled_from(list(HEADERS)), anything), anything)),
        st.fixed_dictionaries(
            {
                "webhook-id": st.text(),
                "webhook-timestamp": st.one_of(st.text(), st.just("1614265330")),
                "webhook-signature": st.one_of(
                    st.text(), st.text(alphabet="v1a,= ABC/+%").map(lambda text: f"v1,{text}")
                ),
            }
        ),
    ),
)
def test_f70_no_request_makes_an_exception(body: bytes, headers: Any) -> None:
    assert holds(body, headers, [SECRET, WHPK]) is False


def test_a_key_that_is_none_is_a_mistake_of_who_asks() -> None:
    for key in ("", "whsec_", "whpk_AAAA", "whsk_"):
        with pytest.raises(ValueError, match=r"must be 'whs|public key is"):
            verify(BODY, HEADERS, key)
        with pytest.raises(ValueError, match=r"must be 'whs|public key is"):
            verified(key)


# The decorator


@verified(SECRET)
def function(request: HttpRequest, name: str = "") -> HttpResponse:
    webhook = request.webhook  # type: ignore[attr-defined]  # the decorator's
    assert abs(webhook.sent_at - datetime.now(tz=UTC)) < TOLERANCE
    return HttpResponse(f"{webhook.id} {json.loads(request.body)['a']}{name}")


@verified(lambda request: {"7": [SECRET]}.get(request.headers.get("x-tenant"), []))
async def coroutine(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.webhook.id} {json.loads(request.body)['a']}")  # type: ignore[attr-defined]  # as above


@method_decorator(verified(SECRET), name="dispatch")
class Class(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.webhook.id} {json.loads(request.body)['a']}")  # type: ignore[attr-defined]  # as above


@api_view(["POST"])
@verified([SECRET])
def api_function(request: Any) -> Response:
    return Response(f"{request.webhook.id} {request.data['a']}")


@method_decorator(verified(SECRET), name="dispatch")
class ApiClass(APIView):
    def post(self, request: Any) -> Response:
        return Response(f"{request.webhook.id} {request.data['a']}")


VIEWS = [
    pytest.param(function, id="function"),
    pytest.param(async_to_sync(coroutine), id="coroutine"),
    pytest.param(Class.as_view(), id="class"),
    pytest.param(api_function, id="api function"),
    pytest.param(ApiClass.as_view(), id="api class"),
]


def post(view: Callable[..., Any], headers: dict[str, str], body: bytes = b'{"a": 1}') -> Any:
    request = RequestFactory(enforce_csrf_checks=True).post(
        "/", body, content_type="application/json", headers={"x-tenant": "7", **headers}
    )
    answer = view(request)
    return getattr(answer, "render", lambda: answer)()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_gets_what_is_signed_and_nothing_else(view: Callable[..., Any]) -> None:
    body = b'{"a": 1}'
    right = signed(body, SECRET)

    answer = post(view, right)
    assert (answer.status_code, answer.content.strip(b'"')) == (200, b"evt_1 1")
    for changed, status, why in (
        ({"webhook-id": "evt_2"}, 401, "has none that is valid"),
        ({"webhook-timestamp": "1"}, 401, "too far from now"),
        ({"webhook-timestamp": "x"}, 400, "no number of seconds"),
        ({"webhook-id": "evt.1"}, 400, "other characters"),
        ({"webhook-id": ""}, 400, "other characters"),
    ):
        answer = post(view, {**right, **changed})
        assert answer.status_code == status
        assert why in json.loads(answer.content)["detail"]
    assert post(view, {}).status_code == 400
    assert post(view, right, b'{"a": 2}').status_code == 401


@pytest.mark.parametrize(
    "view", [function, coroutine, Class.as_view(), api_function, ApiClass.as_view()]
)
def test_no_csrf_token_is_asked_for(view: Any) -> None:
    assert view.csrf_exempt


def test_keys_may_depend_on_the_request() -> None:
    headers = signed(b'{"a": 1}', SECRET)
    view = async_to_sync(coroutine)

    assert post(view, headers).status_code == 200
    assert post(view, {**headers, "x-tenant": "8"}).status_code == 401


def test_a_view_keeps_its_name_and_arguments() -> None:
    request = RequestFactory().post(
        "/", b'{"a": 1}', content_type="application/json", headers=signed(b'{"a": 1}', SECRET)
    )

    assert function.__name__ == "function"
    assert function(request, name="!").content == b"evt_1 1!"
