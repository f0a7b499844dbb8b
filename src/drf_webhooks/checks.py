"""System checks: what is wrong with the settings and the declarations, said at start-up."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import DatabaseError, router, transaction
from django.db.models import Model
from django.utils.module_loading import import_string

from drf_webhooks import api_checks, resource_checks, schema_checks, secret_checks
from drf_webhooks.conf import config, given, mistakes
from drf_webhooks.delivery.formats import format_named, problem
from drf_webhooks.delivery.trust import has_authorities, tls_context
from drf_webhooks.destination_checks import check_destinations, check_urls
from drf_webhooks.event_types import is_event_type
from drf_webhooks.exceptions import ConfigurationError, FormatError
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.tracing.index import Trace, index
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.waking import load

__all__ = ["register"]

_GETTERS = "signal_model_instance_base_getters"


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_settings, "drf_webhooks")
    checks.register(check_resources, "drf_webhooks")
    checks.register(check_trust, "drf_webhooks")
    checks.register(check_formats, "drf_webhooks")
    checks.register(check_endpoints, checks.Tags.database)
    checks.register(check_engine, "drf_webhooks")
    checks.register(check_destinations, "drf_webhooks", deploy=True)
    checks.register(check_urls, checks.Tags.database)
    checks.register(check_owners, "drf_webhooks")
    checks.register(check_limits, "drf_webhooks", deploy=True)
    schema_checks.register()
    checks.register(resource_checks.check_features, "drf_webhooks")
    checks.register(resource_checks.check_pinned, checks.Tags.database)
    secret_checks.register()
    api_checks.register()


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Unknown settings, wrong types, and what the tables need of the project."""
    found: list[checks.CheckMessage] = [
        checks.Error(mistake, hint="See the reference of settings.", id="drf_webhooks.E001")
        for mistake in mistakes(given())
    ]
    if not found:
        found += _check_handler(config().NOTICE_HANDLER)
    if not settings.USE_TZ:
        found.append(
            checks.Error(
                "USE_TZ is False. Deliveries are due at moments, which need time zones.",
                hint="Set USE_TZ = True.",
                id="drf_webhooks.E009",
            )
        )
    return found


def check_trust(**_: Any) -> list[checks.CheckMessage]:
    """Certificates that nobody could be trusted by."""
    if mistakes(given()):
        return []
    try:
        tls_context(config().CA_BUNDLE)
    except ConfigurationError as error:
        hint = "Name a file of certificates in PEM form that this process may read."
        return [checks.Error(str(error), hint=hint, id="drf_webhooks.E201")]
    if config().CA_BUNDLE is None and not has_authorities():
        return [
            checks.Warning(
                "This system has no CA certificates where its OpenSSL looks for them. No https "
                "endpoint will be trusted.",
                hint="Install them (ca-certificates), or set DRF_WEBHOOKS['CA_BUNDLE'].",
                id="drf_webhooks.W201",
            )
        ]
    return []


def check_formats(**_: Any) -> list[checks.CheckMessage]:
    """Formats of the project's own that are none."""
    if mistakes(given()):
        return []
    found: list[checks.CheckMessage] = []
    for name in config().FORMATS:
        try:
            format_named(name, config())
        except FormatError as error:
            hint = "Write the dotted path of a subclass of drf_webhooks.delivery.formats.Format."
            found.append(checks.Error(str(error), hint=hint, id="drf_webhooks.E202"))
    return found


def check_endpoints(
    *, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Formats that endpoints have and that cannot be used, asked of the databases."""
    if mistakes(given()):
        return []
    return [
        checks.Error(
            f"Endpoints in the database {alias!r} cannot be sent to. {found}",
            hint="Until then their deliveries are tried again, and are dead in the end.",
            id="drf_webhooks.E203",
        )
        for alias in databases or ()
        if router.allow_migrate_model(alias, Endpoint)
        for name in _formats_in_use(alias)
        if (found := problem(name, config()))
    ]


def _formats_in_use(alias: str) -> list[str]:
    try:
        with transaction.atomic(using=alias):
            formats = Endpoint.objects.using(alias).order_by("format").distinct()
            return list(formats.values_list("format", flat=True))
    except DatabaseError:
        # Before the first migration, or the one that brings the column.
        return []


def _check_handler(path: str | None) -> Iterator[checks.CheckMessage]:
    try:
        handler = None if path is None else import_string(path)
    except ImportError as error:
        handler, why = error, str(error)
    else:
        why = "It is no function"
    if handler is not None and not callable(handler):
        yield checks.Error(
            f"DRF_WEBHOOKS['NOTICE_HANDLER'] is {path!r}. {why}.",
            hint="Name a function of one argument, the notice, with its module.",
            id="drf_webhooks.E011",
        )


def check_owners(**_: Any) -> list[checks.CheckMessage]:
    """A function that is to tell which owners may receive, and cannot."""
    path = None if mistakes(given()) else config().OWNER_MAY_RECEIVE
    try:
        found = None if path is None else import_string(path)
    except ImportError as error:
        why = str(error)
    else:
        if path is None or callable(found):
            return []
        why = "It is no function"
    return [
        checks.Error(
            f"DRF_WEBHOOKS['OWNER_MAY_RECEIVE'] is {path!r}. {why}.",
            hint=(
                "Name a function that takes a queryset of owners and returns those that may "
                "receive. Until then nothing is sent to endpoints that have an owner."
            ),
            id="drf_webhooks.E401",
        )
    ]


def check_limits(**_: Any) -> list[checks.CheckMessage]:
    """A cache that each process has for itself, where limits are counted."""
    backend = settings.CACHES["default"]["BACKEND"]
    if mistakes(given()) or not backend.endswith((".LocMemCache", ".DummyCache")):
        return []
    if config().TESTS_PER_MINUTE is None and config().RESENDS_PER_MINUTE is None:
        return []
    return [
        checks.Warning(
            f"CACHES['default'] is {backend!r}, which processes do not share. An owner may send "
            "as many tests from each process as TESTS_PER_MINUTE allows.",
            hint="Use a cache that all processes share, as DRF's throttles need it too.",
            id="drf_webhooks.W401",
        )
    ]


def check_engine(**_: Any) -> list[checks.CheckMessage]:
    """An engine that cannot be woken, and what the engine itself finds wrong."""
    path = None if mistakes(given()) else config().ENGINE
    if path is None:
        return []
    try:
        engine = load(path)
        # Asked for here, so that a class without it is a mistake too.
        engine.wake  # noqa: B018
    except Exception as error:  # noqa: BLE001  # importing it runs anybody's code
        return [
            checks.Error(
                f"DRF_WEBHOOKS['ENGINE'] is {path!r}, which is no engine: "
                f"{type(error).__name__}: {error}",
                hint=(
                    "Name a class with a method wake(using). That of Celery needs the package "
                    "drf-webhooks[celery], that of django.tasks on Django 5.2 drf-webhooks[tasks]."
                ),
                id="drf_webhooks.E110",
            )
        ]
    own: Callable[[], list[checks.CheckMessage]] = getattr(engine, "check", list)
    return own()


def check_resources(**_: Any) -> list[checks.CheckMessage]:
    """Declarations that cannot work as they are written."""
    return [
        *_check_names(),
        *_check_serializers(),
        *(message for found in index().traces for message in _check_trace(found)),
        *_check_opaque(index().traces),
        *_check_database(),
    ]


def _check_names() -> Iterator[checks.CheckMessage]:
    by_name = _grouped(lambda each: each.base_name)
    for name, resources in by_name.items():
        if len(resources) > 1:
            yield checks.Error(
                f"{_names(resources)} have one base_name, {name!r}. A receiver could not "
                "tell their events apart.",
                hint="Give each resource a base_name of its own.",
                obj=resources[1],
                id="drf_webhooks.E002",
            )
        if not isinstance(name, str) or not is_event_type(name):
            yield checks.Error(
                f"{_names(resources)} has the base_name {name!r}, which is no event type.",
                hint="Use letters, digits and underscores joined by full stops: 'core.deposit'.",
                obj=resources[0],
                id="drf_webhooks.E005",
            )


def _check_serializers() -> Iterator[checks.CheckMessage]:
    for serializer, resources in _grouped(lambda each: each.serializer_class).items():
        if len(resources) > 1:
            yield checks.Error(
                f"{_names(resources)} declare one serializer, {serializer.__name__}. Each "
                "change would be said twice.",
                hint="Remove one of them, or give one a serializer of its own.",
                obj=resources[1],
                id="drf_webhooks.E003",
            )
    for resource in registry:
        if not hasattr(resource, "model"):
            yield checks.Error(
                f"{resource.__name__}.serializer_class is {resource.serializer_class!r}, "
                "which has no Meta.model.",
                hint="Use a ModelSerializer.",
                obj=resource,
                id="drf_webhooks.E006",
            )


def _check_trace(found: Trace) -> Iterator[checks.CheckMessage]:
    name = found.resource.__name__
    if found.error is not None:
        yield checks.Error(
            f"{name}: {found.resource.serializer_class.__name__} cannot be made: "
            f"{type(found.error).__name__}: {found.error}",
            hint=(
                "Return what its context needs from get_serializer_context(); there is no "
                "request when a webhook is serialized."
            ),
            obj=found.resource,
            id="drf_webhooks.E006",
        )
    for mistake in found.mistakes:
        yield checks.Error(
            f"{name}.depends_on has {mistake}.",
            hint="Write ORM paths from the base model, like 'tenant__payments'.",
            obj=found.resource,
            id="drf_webhooks.E007",
        )
    for model, getter in found.resource.signal_model_instance_base_getters.items():
        if not (isinstance(model, type) and issubclass(model, Model)) or not (
            getter is None or callable(getter)
        ):
            yield checks.Error(
                f"{name}.{_GETTERS} maps {model!r} to {getter!r}.",
                hint="Map a model to a function of an instance, or to None to ignore the model.",
                obj=found.resource,
                id="drf_webhooks.E008",
            )
    yield from _check_unreachable(found)


def _check_unreachable(found: Trace) -> Iterator[checks.CheckMessage]:
    declared = {
        model._meta.concrete_model
        for model in found.resource.signal_model_instance_base_getters
        if isinstance(model, type) and issubclass(model, Model)
    }
    serializer = found.resource.serializer_class.__name__
    base = found.resource.model._meta.verbose_name_plural
    for node in found.tree:
        for lost in node.unreachable:
            if lost.model._meta.concrete_model in declared or found.resource.depends_on:
                continue
            yield checks.Error(
                f"{found.resource.__name__} cannot tell which {base} a changed "
                f"{lost.model.__name__} concerns.\n{found.tree.draw('    ')}",
                hint=(
                    f'"{lost.name}" in {serializer} has no path in the ORM. Add '
                    f"{lost.model.__name__} to {_GETTERS}, or map it to None to ignore it."
                ),
                obj=found.resource,
                id="drf_webhooks.E004",
            )


def _check_opaque(traces: list[Trace]) -> Iterator[checks.CheckMessage]:
    """Name fields whose code may read other rows, all in one message."""
    unknown = [
        f"{found.resource.__name__}: {'.'.join(filter(None, [node.accessor, opaque.name]))}"
        f"{_known(found)}"
        for found in traces
        if not found.resource.depends_on
        for node in found.tree
        for opaque in node.opaque
        if opaque.sees_row and opaque.is_named
    ]
    if unknown:
        yield checks.Warning(
            f"{len(unknown)} serializer fields may read rows that are not monitored: "
            f"{'; '.join(unknown)}.",
            hint=(
                "They run code of yours, which is watched while it runs. Run `manage.py "
                "webhooks_paths --learn` to let it be seen before it matters, name what it "
                "reads with depends_on, or silence this check."
            ),
            id="drf_webhooks.W001",
        )


def _check_database() -> Iterator[checks.CheckMessage]:
    """Name keys whose rows the database itself deletes or alters, unseen by anybody."""
    found = {
        f"{model._meta.label}.{field.name}"
        for model in {*index().bases, *index().nested}
        for field in model._meta.local_concrete_fields
        if field.is_relation and _is_done_by_the_database(field)
    }
    if found:
        yield checks.Warning(
            f"The database itself acts on rows that serializers read: {', '.join(sorted(found))}.",
            hint="Use CASCADE and SET_NULL instead, or call trigger() for the objects concerned.",
            id="drf_webhooks.W002",
        )


def _is_done_by_the_database(field: Any) -> bool:
    # DB_CASCADE and its like are instances of a class of Django 6.1; the others are functions.
    return type(field.remote_field.on_delete).__name__ == "DatabaseOnDelete"


def _known(found: Trace) -> str:
    """Say how much was learnt of a resource's code."""
    return f" ({found.learnt} paths learnt)" if found.learnt else " (nothing learnt yet)"


def _grouped(key: Callable[[Any], Any]) -> dict[Any, list[Resource]]:
    groups: dict[Any, list[Resource]] = defaultdict(list)
    for resource in registry:
        groups[key(resource)].append(resource)
    return groups


def _names(resources: list[Resource]) -> str:
    return " and ".join(each.__name__ for each in resources)
