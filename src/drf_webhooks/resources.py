"""What a project writes to declare its webhooks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

from django.db.models import Model, QuerySet
from rest_framework.serializers import BaseSerializer

from drf_webhooks.changes import Operation
from drf_webhooks.registry import registry
from drf_webhooks.session import identify, is_disabled, recording

__all__ = ["ModelSerializerWebhook"]

#: From an instance of a nested model to the base objects above it.
Getter = Callable[[Any], Iterable[Any]]


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
        return [cls.event_type(each) for each in Operation if cls.emits(each)]

    @classmethod
    def event_type(cls, operation: Operation) -> str:
        """Return ``base_name.operation``."""
        return f"{cls.base_name}.{operation}"

    @classmethod
    def emits(cls, operation: Operation) -> bool:
        """Tell whether an operation is said at all."""
        return {
            Operation.CREATED: cls.create,
            Operation.UPDATED: cls.update,
            Operation.DELETED: cls.delete,
        }[operation]

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
        return cls.get_owner.__func__ is not ModelSerializerWebhook.get_owner.__func__  # type: ignore[attr-defined]  # class methods have it

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
        mine: Any = cls.get_serializer_context
        return mine.__func__ is not ModelSerializerWebhook.get_serializer_context.__func__  # type: ignore[attr-defined]  # class methods have it

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
        model, using, pks = identify(objects)
        if model._meta.concrete_model is not cls.model._meta.concrete_model:
            msg = (
                f"{cls.__name__}.trigger() got {model._meta.label}. Give it an instance or a "
                f"queryset of {cls.model._meta.label}."
            )
            raise ValueError(msg)
        if is_disabled(cls):
            return
        with recording(using) as changes:
            for pk in pks:
                changes.note_base(cls, pk, wanted)


def _operation(text: str) -> Operation:
    try:
        return Operation(text)
    except ValueError as error:
        known = ", ".join(repr(str(each)) for each in Operation)
        msg = f"{text!r} is no operation. It must be one of {known}."
        raise ValueError(msg) from error
