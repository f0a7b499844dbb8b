"""No request that a generator makes up is an error of ours, alone or one after the other.

``FUZZ`` says how many examples each operation has; ``make fuzz`` asks for many.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from pytest_django.live_server_helper import LiveServer
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from drf_webhooks.models import Endpoint, Recovery
from tests.api.fuzzed import linked, schema
from tests.world import make_part

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.fuzz,
    pytest.mark.urls("tests.api.fuzzed"),
]

EXAMPLES = int(os.environ.get("FUZZ", "4"))
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    status_code_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALM = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.fixture
def load(live_server: LiveServer) -> Iterator[Any]:
    """Loads a schema for a server that runs, with something in its database."""
    cache.clear()
    make_part("ada")
    without_limits = {
        "ENDPOINTS_PER_OWNER": None,
        "TESTS_PER_MINUTE": None,
        "RESENDS_PER_MINUTE": None,
        "ENDPOINT_VERIFIER": "drf_webhooks.verification.Echo",
    }
    with override_settings(DRF_WEBHOOKS=without_limits):
        yield partial(_loaded, live_server.url)


def _loaded(url: str, described: dict[str, Any]) -> Any:
    found = schemathesis.openapi.from_dict(described)
    found.config.update(base_url=url, headers={"x-user": "ada"})
    return found


def test_each_operation_bears_whatever_it_is_sent(load: Any) -> None:
    operations = [each.ok() for each in load(schema()).get_all_operations()]
    asked: set[str] = set()
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=CALM,
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            asked.add(case.operation.label)
            case.call_and_validate(checks=CHECKS)

        check()

    assert len(asked) == len(operations) > 25


def test_requests_that_follow_from_answers_are_borne(load: Any) -> None:
    machine = load(linked(schema())).as_state_machine()

    kept = set(Endpoint.objects.values_list("pk", flat=True))

    class Machine(machine):  # type: ignore[valid-type]  # made at run time
        def setup(self) -> None:
            # Each program finds the same: Hypothesis compares what those have drawn that begin
            # alike.
            super().setup()
            Endpoint.objects.exclude(pk__in=kept).delete()
            Recovery.objects.all().delete()
            cache.clear()

        def validate_response(self, response: Any, case: Any, **more: Any) -> None:
            reached.add((case.operation.label, response.status_code))
            # The links came with a narrower schema, so that requests succeed.
            case.validate_response(response, checks=CHECKS[:-1])

    reached: set[tuple[str, int]] = set()
    Machine.run(
        settings=settings(
            max_examples=max(EXAMPLES * 2, 20),
            stateful_step_count=8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )

    # It came further than to what is not there.
    linked_ones = {label for label, code in reached if code < 300 and "{" in label}
    assert ("POST /endpoints/", 201) in reached
    # Which ones depends on the keys that there are by then.
    assert len(linked_ones) >= 3, linked_ones
