"""Keep endpoints' health in the database: one UPDATE for each endpoint of a batch that needs it."""

import dataclasses
import logging
import random
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Case, F, Q, Value, When

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.health import (
    Charge,
    FailingType,
    Health,
    Kind,
    Ruling,
    Verdict,
    after,
    weigh,
)
from drf_webhooks.models import Endpoint, EndpointHealth, Notice
from drf_webhooks.overrides import rules

__all__ = ["Heard", "Standing", "begin_rounds", "charge", "fill_rounds", "forget"]

logger = logging.getLogger(__name__)

_KINDS = {
    Verdict.FAILING: Notice.Kind.FAILING,
    Verdict.TYPE_FAILING: Notice.Kind.TYPE_FAILING,
    Verdict.DISABLED: Notice.Kind.DISABLED,
}
_COLUMNS = [each.name for each in dataclasses.fields(Health)]


@dataclasses.dataclass(slots=True)
class Standing:
    """How a delivery's endpoint stood when the delivery was leased, and what holds for it.

    Not changed once made, as :class:`~drf_webhooks.delivery.leases.Leased` is not.
    ``round`` is the round of the ramp that it belongs to, if it belongs to one.
    """

    event_type: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_clean: bool = True
    is_by_hand: bool = False
    round: int | None = None


@dataclasses.dataclass(frozen=True)
class Heard:
    """What came of an attempt, as far as it concerns the endpoint."""

    endpoint: uuid.UUID
    standing: Standing
    status: int | None
    error: str
    headers: tuple[tuple[str, str], ...]
    disables: str = ""


def begin_rounds(
    endpoints: Collection[uuid.UUID], *, using: str, now: datetime, length: timedelta
) -> dict[uuid.UUID, int]:
    """Begin a round for each recovering endpoint, so that nobody else sends to it meanwhile.

    Called inside the transaction of the claim. One conditional UPDATE: of two workers one
    wins a round.

    Args:
        endpoints: Those that have a ``ramp``.
        using: The database.
        now: What the database's clock says.
        length: Of the leases. Then the round is over, whatever became of it.

    Returns:
        The numbers of the rounds that were won, by endpoint.

    """
    if not endpoints:
        return {}
    is_free = Q(paused_until=None) | Q(paused_until__lte=now)
    table = EndpointHealth.objects.using(using)
    rows = table.filter(is_free, pk__in=endpoints, ramp__isnull=False)
    if connections[using].features.has_select_for_update_skip_locked:
        # Waits for nobody, so that no two claims wait for each other.
        locked = rows.select_for_update(skip_locked=True).values_list("pk", flat=True)
        rows = rows.filter(pk__in=list(locked))
    # The mark of this claim.
    until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
    rows.update(paused_until=until, round=F("round") + 1)
    won = table.filter(pk__in=endpoints, paused_until=until)
    return dict(won.values_list("pk", "round"))


def fill_rounds(
    rounds: Mapping[uuid.UUID, int], counts: Mapping[uuid.UUID, int], *, using: str
) -> None:
    """Store how many deliveries belong to each round; one without any is over at once."""
    if not rounds:
        return
    is_one = Q()
    for pk, number in rounds.items():
        is_one |= Q(pk=pk, round=number)
    filled = [When(pk=pk, then=Value(counts.get(pk, 0))) for pk in rounds]
    empty = [pk for pk in rounds if not counts.get(pk)]
    rows = EndpointHealth.objects.using(using)
    rows.filter(is_one).update(
        round_left=Case(*filled),
        paused_until=Case(When(pk__in=empty, then=Value(None)), default=F("paused_until")),
    )


def forget(endpoints: Collection[uuid.UUID], *, using: str, ramp: int | None = None) -> None:
    """Let endpoints count as well again; with ``ramp`` they begin with so many at once.

    The number of the round stays, and rises: results of before say nothing of them any more.
    """
    clean = {name: value for name, value in _row(Health(ramp=ramp)).items() if name != "round"}
    EndpointHealth.objects.using(using).filter(pk__in=endpoints).update(
        **clean, round=F("round") + 1
    )


def charge(
    results: Sequence[Heard],
    *,
    using: str,
    now: datetime,
    chance: Callable[[], float] = random.random,
) -> None:
    """Let results count for the health of their endpoints, in the open transaction.

    No statement for a success of an endpoint that is well. For the others two, whatever
    their number, and one UPDATE for each endpoint whose health changes.

    Args:
        results: Those that were not refused as late, in the order in which they came.
        using: The database.
        now: What the database's clock says.
        chance: 0 to 1, for the jitter of pauses.

    """
    charges: dict[uuid.UUID, list[Charge]] = {}
    settings = {}
    for each in results:
        if each.endpoint not in settings:
            overrides = each.standing.overrides
            settings[each.endpoint] = rules(config(), event_type="", overrides=overrides)
        made = _charge(each, now, settings[each.endpoint])
        if made is not None:
            charges.setdefault(each.endpoint, []).append(made)
    if not charges:
        return
    said: list[tuple[uuid.UUID, Ruling]] = []
    for pk, row in _locked(list(charges), using).items():
        before = health = _health(row)
        for made in charges[pk]:
            health, rulings = after(health, made, now=now, chance=chance(), settings=settings[pk])
            said += [(pk, ruling) for ruling in rulings]
        if health != before:
            EndpointHealth.objects.using(using).filter(pk=pk).update(**_row(health))
    _act(said, using, now)


def _charge(heard: Heard, now: datetime, settings: Config) -> Charge | None:
    """Return what a result says of its endpoint, or ``None`` if that changes nothing."""
    standing = heard.standing
    made = weigh(
        status=heard.status,
        error=heard.error,
        headers=heard.headers,
        disables=heard.disables,
        now=now,
        settings=settings,
        event_type=standing.event_type,
        round=standing.round,
    )
    if made.kind is Kind.GONE:
        return made
    if made.kind is Kind.SUCCESS:
        return None if standing.is_clean else made
    if made.kind is Kind.NEUTRAL:
        return None if standing.round is None else made
    return None if standing.is_by_hand else made


def _locked(endpoints: list[uuid.UUID], using: str) -> dict[uuid.UUID, EndpointHealth]:
    """Lock the rows, in one order for everybody; make those that are missing."""
    rows = EndpointHealth.objects.using(using).filter(pk__in=endpoints).order_by("pk")
    if connections[using].features.has_select_for_update:
        rows = rows.select_for_update()
    found = {each.pk: each for each in rows}
    if len(found) < len(endpoints):
        missing = sorted(set(endpoints).difference(found))
        alive = Endpoint.objects.using(using).filter(pk__in=missing).values_list("pk", flat=True)
        EndpointHealth.objects.using(using).bulk_create(
            [EndpointHealth(pk=each) for each in alive], ignore_conflicts=True
        )
        found |= {each.pk: each for each in rows.filter(pk__in=missing)}
    return found


def _act(rulings: list[tuple[uuid.UUID, Ruling]], using: str, now: datetime) -> None:
    """Disable endpoints, and store what is to be said of them."""
    for pk, ruling in rulings:
        if ruling.verdict is Verdict.OPENED:
            logger.warning("Endpoint %s is paused. %s", pk, ruling.reason)
        elif ruling.verdict is Verdict.CLOSED:
            logger.info("Endpoint %s is not paused any more. %s", pk, ruling.reason)
    rulings = [(pk, each) for pk, each in rulings if each.verdict in _KINDS]
    if not rulings:
        return
    enabled = set(
        Endpoint.objects.using(using)
        .filter(pk__in={pk for pk, _ in rulings}, state=Endpoint.State.ENABLED)
        .values_list("pk", flat=True)
    )
    notices = []
    for pk, ruling in rulings:
        if pk not in enabled:
            continue
        if ruling.verdict is Verdict.DISABLED:
            if not _disable(pk, ruling, using, now):
                continue
            enabled.discard(pk)
        else:
            logger.warning("Endpoint %s: %s", pk, ruling.reason)
        notices.append(
            Notice(
                endpoint_id=pk,
                kind=_KINDS[ruling.verdict],
                reason=ruling.reason[:300],
                event_type=ruling.event_type,
                failing_since=ruling.failing_since,
                created_at=now,
                due_at=now,
            )
        )
    Notice.objects.using(using).bulk_create(notices)


def _disable(pk: uuid.UUID, ruling: Ruling, using: str, now: datetime) -> bool:
    waiting = Notice.objects.using(using).filter(
        endpoint=pk, kind=Notice.Kind.FAILING, due_at__isnull=False
    )
    if ruling.failing_since is not None and waiting.exists():
        logger.error("Endpoint %s is not disabled: its owner has not got the warning yet.", pk)
        return False
    disabled = Endpoint.objects.using(using).filter(pk=pk, state=Endpoint.State.ENABLED)
    if not disabled.update(
        state=Endpoint.State.DISABLED, disabled_reason=ruling.reason[:200], updated_at=now
    ):
        return False
    logger.warning("Endpoint %s is disabled. %s", pk, ruling.reason)
    return True


def _health(row: EndpointHealth) -> Health:
    values = {name: getattr(row, name) for name in _COLUMNS if name != "types"}
    types = {
        name: FailingType(
            failures=each["failures"],
            since=datetime.fromisoformat(each["since"]),
            failed_at=datetime.fromisoformat(each["failed_at"]),
            status=each["status"],
            is_said=each["is_said"],
        )
        for name, each in row.types.items()
    }
    return Health(**values, types=types)


def _row(health: Health) -> dict[str, Any]:
    values = {name: getattr(health, name) for name in _COLUMNS if name != "types"}
    types = {
        name: {
            "failures": each.failures,
            "since": each.since.isoformat(),
            "failed_at": each.failed_at.isoformat(),
            "status": each.status,
            "is_said": each.is_said,
        }
        for name, each in health.types.items()
    }
    return {**values, "types": types, "is_clean": health.is_clean}
