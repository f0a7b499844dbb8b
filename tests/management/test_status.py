"""``manage.py webhooks_status``, as an operator types it."""

import json

import pytest
from django.core.management import CommandError

from tests.management.test_commands import run
from tests.test_status import HOUR, MINUTE, make_deliveries, make_endpoint

pytestmark = pytest.mark.django_db


def test_a_table_for_people() -> None:
    endpoint = make_endpoint()
    make_deliveries(endpoint, 2, due=10 * MINUTE, attempt_count=1)
    make_deliveries(endpoint, 1, state="dead")

    out, _ = run("webhooks_status")

    assert "endpoints    1 enabled, 0 disabled" in out
    assert "waiting      2, 2 of them failing" in out
    assert "oldest due   10m" in out
    assert "dead         1, 0 in the last hour" in out
    assert f"      2       2     10m  enabled   {endpoint.pk} https://a.example/" in out


def test_nothing_due_says_so() -> None:
    assert "oldest due   none" in run("webhooks_status")[0]


def test_json_for_programs() -> None:
    endpoint = make_endpoint()
    make_deliveries(endpoint, 3, due=MINUTE)

    found = json.loads(run("webhooks_status", "--json", "--limit", "2")[0])

    assert found["waiting"] == {"value": 2, "is_least": True}
    assert found["endpoints"] == {"enabled": 1, "disabled": 0}
    assert 60 <= found["oldest_age_seconds"] < 120
    assert found["last_hour"] == {
        "per_second": 0.0,
        "failed_per_second": 0.0,
        "is_estimate": False,
    }
    assert found["behind"][0]["endpoint"] == str(endpoint.pk)


def test_it_fails_if_the_oldest_is_too_old() -> None:
    make_deliveries(make_endpoint(), due=10 * MINUTE)

    run("webhooks_status", "--fail-after", "11m")
    with pytest.raises(CommandError, match="has been due for 10m") as caught:
        run("webhooks_status", "--fail-after", "9m")

    assert caught.value.returncode == 1


def test_what_waits_for_a_disabled_endpoint_is_no_failure() -> None:
    make_deliveries(make_endpoint(state="disabled"), due=HOUR)

    run("webhooks_status", "--fail-after", "1m")
