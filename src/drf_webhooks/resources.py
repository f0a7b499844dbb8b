"""What a project writes to declare its webhooks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal

from django.db.models import Model, QuerySet
from rest_framework.serializers import BaseSerializer

from drf_webhooks import versions
from drf_webhooks.changes import Operation
from drf_webhooks.differences import FormChange
from drf_webhooks.json_text import encode
from drf_webhooks.registry import registry
from drf_webhooks.session import identify, recording
from drf_webhooks.silence import is_disabled

__all__ = ["FormChange", "MessageShape", "ModelSerializerWebhook"]

#: From an instance of a nested model to the base objects above it.
Getter = Callable[[Any], Iterable[Any]]


@dataclass(frozen=True)
class MessageShape:
    """What the message of one event type looks like, in one version."""

    event_type: str
    #: Empty for a resource without versions.
    version: str
    #: Writes ``data``; with ``is_key_only`` only its fields that hold the primary key.
    serializer_class: type[BaseSerializer[Any]]
    is_key_only: bool
    #: The members beside ``data``; the value says whether it is always there.
    members: Mapping[str, bool]


class ModelSerializerWebhook:
    """Events for the objects that one ``ModelSerializer`` writes. A subclass is a declaration.

    A subclass without ``serializer_class`` declares nothing: it may hold what others share.
    """

    #: Says how an object looks; its ``Meta.model`` is the base model.
    serializer_class: ClassVar[type[BaseSerializer[Any]]]

    #: The front of each event type; by default ``app_label.model_name``.
    base_name: ClassVar[str]

    #: By nested model, how to get from an instance to base objects: a function that returns or
    #: yields them, or raises ``ObjectDoesNotExist`` for none. ``None`` ignores the model.
    #: Replaces what was found for the model.
    signal_model_instance_base_getters: ClassVar[Mapping[type[Model], Getter | None]] = {}

    #: ORM paths from the base model, ``"tenant__payments"``, that the serializer reads where
    #: it cannot be seen: in a method field, a property or ``to_representation``.
    depends_on: ClassVar[Iterable[str]] = ()

    #: Which operations are said at all.
    create: ClassVar[bool] = True
    update: ClassVar[bool] = True
    delete: ClassVar[bool] = True

    #: ``"snapshot"`` serializes in the transaction, ``"deferred"`` leaves it to the worker,
    #: which does it once: a cheaper request, and data of then.
    serialize: ClassVar[Literal["snapshot", "deferred"]] = "snapshot"

    #: Say ``updated`` only if the serialized form differs from what it was before the session.
    #: Then each affected object is serialized before the first change too. An object that
    #: ``get_queryset()`` begins to leave out is ``deleted``, one that it lets in ``created``.
    skip_unchanged: ClassVar[bool] = False

    #: Say ``updated`` only if one of these members of the serialized form differs from what it
    #: was before the session, by dotted names: ``"tenant.address.city"``. Costs what
    #: ``skip_unchanged`` costs.
    only_fields: ClassVar[Iterable[str]] = ()

    #: Have ``updated`` messages say what the changed members were, in ``previous_attributes``:
    #: in the last message of the object to the same owner, or before the session.
    previous_attributes: ClassVar[bool] = False

    #: Custom events, ``base_name.paid`` for ``"paid"``, with the serializer that writes them;
    #: ``None`` for the resource's own. Said by :meth:`emit`.
    events: ClassVar[Mapping[str, type[BaseSerializer[Any]] | None]] = {}

    #: The serializer of each version in which the form has changed, by version. An endpoint that
    #: is pinned to a version is sent the newest that is not newer. ``serializer_class`` is the
    #: last of them.
    versions: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {}

    #: Send only the key fields and the object's URL, for the receiver to fetch the rest.
    thin: ClassVar[bool] = False

    #: What the headers say that :meth:`get_headers` may return, by their names: for the OpenAPI
    #: document. No message is promised to have one.
    header_descriptions: ClassVar[Mapping[str, str]] = {}

    #: How long events of this resource are kept, with their messages; ``None`` as the settings
    #: ``EVENT_RETENTION`` and ``PAYLOAD_RETENTION`` say.
    retention: ClassVar[timedelta | None] = None

    #: Look at an object once more some time after its event: two transactions at the same time
    #: may not see each other's part of it. To be turned off where the form depends on the time
    #: or on chance, and would differ by itself.
    recheck: ClassVar[bool] = True

    #: ``data`` of a ``deleted`` event: the key fields, or the whole form (a query for each delete).
    deleted_payload: ClassVar[Literal["key", "full"]] = "key"

    #: The base model, from the serializer.
    model: ClassVar[type[Model]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "versions" in cls.__dict__ and cls.versions and "serializer_class" not in cls.__dict__:
            cls.serializer_class = cls.versions[versions.newest(cls.versions)]
        serializer_class = getattr(cls, "serializer_class", None)
        if serializer_class is None:
            return
        model = getattr(getattr(serializer_class, "Meta", None), "model", None)
        if model is not None:
            cls.model = model
            if "base_name" not in cls.__dict__:
                cls.base_name = f"{model._meta.app_label}.{model._meta.model_name}"
        elif "base_name" not in cls.__dict__:
            cls.base_name = cls.__name__
        registry.add(cls)

    @classmethod
    def event_types(cls) -> list[str]:
        """Return the types of the events that this resource may emit."""
        return [
            *(cls.event_type(each) for each in Operation if cls.emits(each)),
            *map(cls.event_type, cls.events),
        ]

    @classmethod
    def event_type(cls, name: str) -> str:
        """Return ``base_name.name`` for an operation or a custom event."""
        return f"{cls.base_name}.{name}"

    @classmethod
    def emits(cls, operation: Operation) -> bool:
        """Tell whether an operation is said at all."""
        return {
            Operation.CREATED: cls.create,
            Operation.UPDATED: cls.update,
            Operation.DELETED: cls.delete,
        }[operation]

    @classmethod
    def shape_of(cls, event_type: str, version: str | None = None) -> MessageShape:
        """Return what a message looks like: which serializer writes it, and its members.

        Args:
            event_type: One of :meth:`event_types`.
            version: What an endpoint is pinned to; ``None`` for what new endpoints are.

        Raises:
            ValueError: the resource has no such event type.

        """
        if event_type not in cls.event_types():
            known = ", ".join(cls.event_types())
            msg = f"{cls.__name__} has no event type {event_type!r}. It has {known}."
            raise ValueError(msg)
        name = event_type.removeprefix(f"{cls.base_name}.")
        chosen = cls.version_for(versions.default() if version is None else version)
        members = {"type": True, "timestamp": True, "sequence": True, "replay": False}
        if cls.versions:
            members["version"] = True
        # One that is too large is thin too.
        members["thin"] = cls.thin
        if cls.previous_attributes and name == Operation.UPDATED:
            members["previous_attributes"] = False
        is_gone = name == Operation.DELETED and cls.deleted_payload == "key"
        writer = cls.serializer_for(name, chosen)
        return MessageShape(event_type, chosen, writer, is_gone or cls.thin, members)

    @classmethod
    def serializer_for(cls, name: str, version: str = "") -> type[BaseSerializer[Any]]:
        """Return the serializer that writes an operation or a custom event.

        Args:
            name: ``"updated"``, ``"paid"``.
            version: One of those that are declared, as :meth:`version_for` returns it.

        """
        own = cls.events.get(name)
        return own or cls.versions.get(version) or cls.serializer_class

    @classmethod
    def version_for(cls, pinned: str) -> str:
        """Return the declared version that an endpoint gets which is pinned to some version.

        The newest that is not newer, or else the oldest: so does an endpoint that is pinned to
        none, because it was made before there were versions. Empty if there are none.
        """
        return versions.chosen(cls.versions, pinned)

    @classmethod
    def condition(cls, change: FormChange) -> bool:
        """Tell whether an event is said, asked for each owner with the forms before and after.

        Costs what ``skip_unchanged`` costs. Not asked for custom events. Must not depend on
        anything else: an object that is looked at once more is asked about again.
        """
        del change
        return True

    @classmethod
    def has_condition(cls) -> bool:
        """Tell whether :meth:`condition` is a resource's own."""
        return cls._has_own("condition")

    @classmethod
    def is_compared(cls) -> bool:
        """Tell whether ``updated`` is said only of a form that differs from the one before."""
        return cls.skip_unchanged or bool(cls.only_fields)

    @classmethod
    def keeps_forms(cls) -> bool:
        """Tell whether it matters how an object looked before its session."""
        is_asked = cls.is_compared() or cls.has_condition() or cls.previous_attributes
        return is_asked and cls.serialize == "snapshot"

    @classmethod
    def get_headers(cls, event_type: str, instance: Any, owner: Any = None) -> Mapping[str, str]:
        """Return HTTP headers to be sent with a message, beside those of the endpoint.

        They are stored with the event, in clear, and are the same for each attempt.

        Args:
            event_type: What is said.
            instance: The object as the database has it now; ``None`` if it is deleted.
            owner: The owner that is told, as :meth:`get_owner` gave it.

        """
        del event_type, instance, owner
        return {}

    @classmethod
    def has_headers(cls) -> bool:
        """Tell whether :meth:`get_headers` is a resource's own."""
        return cls._has_own("get_headers")

    @classmethod
    def get_queryset(cls) -> QuerySet[Any]:
        """Return what is serialized. What it leaves out is not said.

        The relations that the serializer reads are joined and prefetched afterwards.
        """
        return cls.model._default_manager.all()

    @classmethod
    def get_owner(cls, instance: Any) -> Any:
        """Return the owner whose endpoints hear of an object: one, several in a list, or none.

        None, or an empty list, means that nobody hears of it. A resource that does not
        override this has no owners: each endpoint that subscribes hears all of it.
        """
        del instance
        return None

    @classmethod
    def is_scoped(cls) -> bool:
        """Tell whether objects have owners."""
        return cls._has_own("get_owner")

    @classmethod
    def get_serializer_context(cls, owner: Any = None) -> dict[str, Any]:
        """Return additions to the serializer's context, ``{"request": …}`` included.

        Args:
            owner: The owner that is told, as :meth:`get_owner` gave it, so that each can be told
                what it may see. ``None`` for a resource without owners, and for what is the
                same for everybody, as the key of an object that is gone.

        """
        del owner
        return {}

    @classmethod
    def is_addressed(cls) -> bool:
        """Tell whether owners may be told different things of one object."""
        return cls._has_own("get_serializer_context")

    @classmethod
    def _has_own(cls, name: str) -> bool:
        # Not by comparing the methods: one is made anew each time, and this is asked often.
        definer = next(each for each in cls.__mro__ if name in each.__dict__)
        return definer is not ModelSerializerWebhook

    @classmethod
    def trigger(cls, objects: Model | QuerySet[Any], operation: str = Operation.UPDATED) -> None:
        """Say by hand that objects were created, updated or deleted, e.g. after raw SQL.

        Joins the current session, or else the open transaction; without either it takes
        effect at once. Inside :func:`~drf_webhooks.session.disable_webhooks` it does nothing.

        Args:
            objects: An instance or a queryset of the base model.
            operation: ``"created"``, ``"updated"`` or ``"deleted"``.

        Raises:
            ValueError: another operation, another model, or an instance without a key.

        """
        wanted = _operation(operation)
        using, pks = cls._identified(objects, "trigger")
        if is_disabled(cls):
            return
        with recording(using) as changes:
            for pk in pks:
                changes.note_base(cls, pk, wanted)

    @classmethod
    def emit(
        cls, objects: Model | QuerySet[Any], name: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """Say a custom event of objects, ``base_name.paid`` for ``"paid"``.

        Each call is one event of each object, whatever else the session says of it. It is stored
        with the transaction, and written at its end like every other event, after ``created``
        and ``updated`` and before ``deleted`` of the same object. Inside
        :func:`~drf_webhooks.session.disable_webhooks` it does nothing.

        Args:
            objects: An instance or a queryset of the base model.
            name: One of :attr:`events`.
            data: Members that are added to the serialized form, or take the place of its own.

        Raises:
            TypeError: ``data`` is no JSON.
            ValueError: another name, another model, or an instance without a key.

        """
        if name not in cls.events:
            known = ", ".join(map(repr, cls.events)) or "none"
            msg = f"{cls.__name__}.events has no {name!r}. It has {known}."
            raise ValueError(msg)
        using, pks = cls._identified(objects, "emit")
        extra = encode(dict(data)) if data else None
        if is_disabled(cls):
            return
        with recording(using) as changes:
            for pk in pks:
                changes.note_emitted(cls, pk, name, extra)

    @classmethod
    def _identified(cls, objects: Model | QuerySet[Any], method: str) -> tuple[str, list[Any]]:
        model, using, pks = identify(objects)
        if model._meta.concrete_model is not cls.model._meta.concrete_model:
            msg = (
                f"{cls.__name__}.{method}() got {model._meta.label}. Give it an instance or a "
                f"queryset of {cls.model._meta.label}."
            )
            raise ValueError(msg)
        return using, pks


def _operation(text: str) -> Operation:
    try:
        return Operation(text)
    except ValueError as error:
        known = ", ".join(repr(str(each)) for each in Operation)
        msg = f"{text!r} is no operation. It must be one of {known}."
        raise ValueError(msg) from error
