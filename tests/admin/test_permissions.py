"""Who may only look can do nothing, and each thing that can be done has its permission."""

import re
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.test import Client, RequestFactory

from drf_webhooks.admin import DeliveryAdmin, EndpointAdmin
from drf_webhooks.admin.tools import Tool
from drf_webhooks.models import Delivery, Endpoint, EndpointHealth
from tests.admin.conftest import Staff, act, do, form, make_attempt, make_delivery, url
from tests.app.models import User

VIEWS = ("view_endpoint", "view_delivery", "view_attempt", "view_event", "view_notice")
#: What each tool needs, and what it needs to be told.
ENDPOINT_TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "send-test": ("change_endpoint", {}),
    "enable": ("change_endpoint", {"waiting": "resume"}),
    "recover": ("change_endpoint", {}),
    "replay": ("change_delivery", {"since": 24}),
    "rotate": ("change_endpoint", {"overlap": "24"}),
    "revoke": ("change_endpoint", {}),
    "reveal": ("reveal_secret", {}),
    "disable": ("change_endpoint", {"reason": ""}),
}
DELIVERY_TOOLS = ("send-again", "send-again-to-disabled", "say-anew", "skip", "cancel")


def state() -> list[Any]:
    return [
        list(Endpoint.objects.values_list("state", "secret", "old_secrets")),
        list(Delivery.objects.order_by("pk").values_list("state", "fence", "reason")),
        EndpointHealth.objects.count(),
    ]


def test_each_tool_is_in_the_tables_of_these_tests() -> None:
    assert {each.name for each in EndpointAdmin.tools} == set(ENDPOINT_TOOLS)
    assert {each.name for each in DeliveryAdmin.tools} == set(DELIVERY_TOOLS)


def test_who_may_look_sees_everything_and_no_button(staff: Staff, endpoint: Endpoint) -> None:
    delivery = make_delivery()
    attempt = make_attempt(delivery)
    client = staff(*VIEWS)
    rows = {
        "endpoint": endpoint,
        "delivery": delivery,
        "attempt": attempt,
        "event": delivery.event,
    }

    for kind, row in rows.items():
        listed = client.get(url(f"{kind}_changelist"))
        shown = client.get(url(f"{kind}_change", row.pk))
        assert (listed.status_code, shown.status_code) == (200, 200)
        assert 'name="action"' not in listed.text
        assert "/do/" not in shown.text
        assert endpoint.secret not in listed.text + shown.text


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_look_does_nothing_by_the_addresses_of_tools(
    method: str, staff: Staff, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    client = staff(*VIEWS)
    before = state()

    for tool, (_permission, data) in ENDPOINT_TOOLS.items():
        found = getattr(client, method)(url("endpoint_tool", endpoint.pk, tool), data)
        assert found.status_code == 403, tool
        assert endpoint.secret not in found.text
    for tool in DELIVERY_TOOLS:
        found = getattr(client, method)(url("delivery_tool", delivery.pk, tool), {"reason": "x"})
        assert found.status_code == 403, tool

    assert state() == before


def test_who_may_look_does_nothing_by_the_actions_of_lists(
    staff: Staff, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    client = staff(*VIEWS)
    before = state()

    for action in EndpointAdmin.actions:
        act(client, "endpoint", action, endpoint)
    for action in DeliveryAdmin.actions:
        act(client, "delivery", action, delivery, reason="x")
    act(client, "endpoint", "delete_selected", endpoint, post="yes")

    assert state() == before


@pytest.mark.parametrize("tool", ENDPOINT_TOOLS)
def test_each_tool_of_endpoints_asks_for_its_own_permission(
    tool: str, staff: Staff, endpoint: Endpoint
) -> None:
    permission, _data = ENDPOINT_TOOLS[tool]
    others = {needed for needed, _data in ENDPOINT_TOOLS.values()} - {permission}
    where = url("endpoint_tool", endpoint.pk, tool)

    assert staff(*VIEWS, *others).post(where).status_code == 403
    may: Client = staff_again(staff, permission)
    assert may.post(where).status_code != 403


def staff_again(staff: Staff, *codenames: str) -> Client:
    """Somebody else."""
    User.objects.filter(username="staff").update(username="before")
    return staff(*VIEWS, *codenames)


def test_who_may_not_log_in_to_the_admin_reaches_no_tool(endpoint: Endpoint) -> None:
    answer = Client().post(url("endpoint_tool", endpoint.pk, "disable"), {"reason": ""})

    assert answer.status_code == 302
    assert "/login/" in answer.headers["location"]


def test_nothing_is_done_by_a_link(admin: Client, endpoint: Endpoint) -> None:
    before = state()

    for tool in EndpointAdmin.tools:
        found = admin.get(url("endpoint_tool", endpoint.pk, tool.name))
        assert found.status_code == (200 if tool.asks else 405)
        assert endpoint.secret not in found.text

    assert state() == before


def test_a_form_of_another_site_does_nothing(admin: Client, endpoint: Endpoint) -> None:
    strict = Client(
        enforce_csrf_checks=True, headers={"cookie": f"sessionid={admin.session.session_key}"}
    )
    strict.cookies = admin.cookies

    assert strict.post(url("endpoint_tool", endpoint.pk, "send-test")).status_code == 403
    assert not Delivery.objects.exists()


def test_a_tool_has_to_say_what_it_does(admin: Client, endpoint: Endpoint) -> None:
    site = django_admin.site._registry[Endpoint]

    with pytest.raises(NotImplementedError):
        Tool().run(site, HttpRequest(), endpoint, {})


def test_tools_of_what_is_not_there_are_not_there(admin: Client, endpoint: Endpoint) -> None:
    assert admin.post(url("endpoint_tool", endpoint.pk, "explode")).status_code == 403
    endpoint.delete()
    assert admin.post(url("endpoint_tool", endpoint.pk or "x", "disable")).status_code == 404


def test_to_see_an_endpoint_is_not_to_see_its_deliveries(staff: Staff, endpoint: Endpoint) -> None:
    delivery = make_delivery()
    make_attempt(delivery)
    client = staff("view_endpoint", "view_event")

    assert "Its last deliveries" not in client.get(url("endpoint_change", endpoint.pk)).text
    assert f"#{delivery.pk}" not in client.get(url("event_change", delivery.event_id)).text
    other = staff_again(staff, "view_delivery")
    assert f"#{delivery.pk}" in other.get(url("event_change", delivery.event_id)).text


def test_who_sees_deliveries_only_sees_no_attempts(staff: Staff, endpoint: Endpoint) -> None:
    delivery = make_delivery()
    make_attempt(delivery)

    shown = staff("view_delivery").get(url("delivery_change", delivery.pk)).text

    assert "Internal Server Error" not in shown


def test_who_may_only_add_sees_the_secret_and_no_link_that_is_refused(staff: Staff) -> None:
    client = staff("add_endpoint")

    shown = client.post(url("endpoint_add"), form()).text

    assert Endpoint.objects.get().secret in shown
    links = set(re.findall(r'href="(/admin/[^"]*)"', shown))
    assert {each: client.get(each).status_code for each in links} == dict.fromkeys(links, 200)


@pytest.mark.parametrize("tool", ENDPOINT_TOOLS)
def test_who_may_not_see_a_row_uses_no_tool_on_it(
    tool: str, staff: Staff, endpoint: Endpoint
) -> None:
    permission, data = ENDPOINT_TOOLS[tool]
    # Who may change may see: that is how Django has it.
    client = staff(*{permission, "view_delivery"} - {"change_endpoint"})
    before = state()

    for method in (client.get, client.post):
        found = method(url("endpoint_tool", endpoint.pk, tool), data)
        assert found.status_code == 403
        assert endpoint.url not in found.text

    assert state() == before


class OfOneHost(EndpointAdmin):
    """A project's own, with a permission for each row."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None or obj.url.startswith("https://a.example/")


def test_a_permission_for_one_row_is_asked_of_that_row(endpoint: Endpoint) -> None:
    other = Endpoint.objects.create(url="https://b.example/", event_types=["x"])
    site = OfOneHost(Endpoint, django_admin.AdminSite())
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("admin")

    assert site.tool_view(request, str(endpoint.pk), "disable").status_code == 200
    assert "disable" in {each.tool.name for each in site.buttons(request, endpoint)}
    with pytest.raises(PermissionDenied):
        site.tool_view(request, str(other.pk), "disable")
    assert "disable" not in {each.tool.name for each in site.buttons(request, other)}


def test_what_is_done_is_written_down(admin: Client, endpoint: Endpoint) -> None:
    do(admin, "endpoint", endpoint, "disable", reason="They asked.")

    history = admin.get(url("endpoint_history", endpoint.pk)).text
    assert "Disabled by admin in the admin. They asked." in history
