"""``manage.py webhooks_replay``, as an operator types it."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.testing import capture_events
from tests.management.test_commands import run
from tests.terminals import terminal
from tests.test_replay import die, make_deposits, tenant  # noqa: F401  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])


def test_a_dry_run_counts_and_changes_nothing(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 3)
    die()

    out, err = run("webhooks_replay", "--failed-since", "1h", "--dry-run")

    assert out == "3\n"
    assert "3 deliveries that died between" in err
    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}


def test_what_failed_is_due_again(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 3)
    die()

    arguments = ["webhooks_replay", "--failed-since", "1h", "--endpoint", str(endpoint.pk)]
    out, err = run(*arguments)

    assert out == "3\n"
    assert "Replayed 3; a worker sends them." in err
    assert "go on with --until" in err
    assert run(*arguments)[0] == "0\n"


def test_nothing_died_before_the_end_that_was_named(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 1)
    die()

    out, _ = run("webhooks_replay", "--failed-since", "2h", "--until", "1h")

    assert out == "0\n"


def test_what_an_endpoint_missed(tenant: Any) -> None:  # noqa: F811
    with capture_events():
        make_deposits(tenant, 2)
    late = Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])

    out, _ = run("webhooks_replay", "--missing-since", "1h", "--endpoint", str(late.pk))

    assert out == "2\n"
    assert Delivery.objects.filter(endpoint=late).count() == 2


def test_what_was_not_replayed_is_told(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 2)
    die()
    Event.objects.filter(pk=Event.objects.first().pk).update(resource="gone")

    out, err = run("webhooks_replay", "--failed-since", "1h", "--anew", "--rate", "100")

    assert out == "1\n"
    assert "1 were not" in err


def test_one_delivery_is_sent_again_or_it_is_said_why_not(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 1)
    die()
    pk = str(Delivery.objects.get().pk)

    assert run("webhooks_replay", "--delivery", pk)[0] == "1\n"
    Event.objects.update(body=None, resource="gone")
    with pytest.raises(CommandError, match="its message is not kept any more"):
        run("webhooks_replay", "--delivery", pk)
    with pytest.raises(CommandError, match="its object is gone"):
        run("webhooks_replay", "--delivery", pk, "--anew")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--missing-since", "1h"], "needs --endpoint"),
        (["--delivery", "1", "--dry-run"], "--dry-run counts many"),
        (["--failed-since", "soon"], "'soon' is no moment"),
        (["--failed-since", "1h", "--rate", "0"], "not at least 1"),
        (["--failed-since", "1h", "--endpoint", "x"], "There is no endpoint 'x'"),
        (["--failed-since", "1h", "--database", "x"], "There is no database 'x'"),
        ([], "one of the arguments --delivery --failed-since --missing-since is required"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run("webhooks_replay", *arguments)


def test_a_terminal_has_a_bar_that_is_gone_at_the_end(endpoint: Endpoint, tenant: Any) -> None:  # noqa: F811
    make_deposits(tenant, 6)
    die()
    with terminal() as shown, open(shown.descriptor, "w", closefd=False) as stream:
        out = StringIO()
        arguments = ["--failed-since", "1h", "--rate", "6"]
        call_command("webhooks_replay", *arguments, stdout=out, stderr=stream)

    assert out.getvalue() == "6\n"
    assert "] 6/6  100%" in shown.text
    # Nothing of the bar is left when it is done.
    assert not [each for each in shown.screen if "#" in each]
    assert "Replayed 6; a worker sends them." in shown.screen
