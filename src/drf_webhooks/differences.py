"""Tell two serialized forms of one object apart. Pure functions of what JSON holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["FormChange", "changed_names", "differs", "is_same", "previous", "restored"]

#: Stands for a member that is not there, which is not ``null``.
_NOTHING = object()


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in JSON, where ``true`` is not ``1``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def previous(before: Any, after: Any) -> dict[str, Any]:
    """Return the members of a form that have changed, with the values that they had.

    Objects inside are compared member by member, lists as a whole. A member that has come is
    not among them: it had no value.
    """
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return {}
    found: dict[str, Any] = {}
    for name, old in before.items():
        new = after.get(name, _NOTHING)
        if is_same(old, new):
            continue
        is_nested = isinstance(old, dict) and isinstance(new, dict)
        inner = previous(old, new) if is_nested else old
        # What only members that have come tell apart has no old value to show.
        if inner or not is_nested:
            found[name] = inner
    return found


def restored(after: Any, changed: Any) -> Any:
    """Return a form with the values that it had, as a receiver would put them back."""
    if not (isinstance(after, dict) and isinstance(changed, dict)):
        return changed
    return {
        **after,
        **{
            name: restored(after[name], old)
            if isinstance(old, dict) and isinstance(after.get(name), dict)
            else old
            for name, old in changed.items()
        },
    }


def changed_names(before: Any, after: Any) -> frozenset[str]:
    """Return the dotted names of the members that differ: those that came and went too."""
    return frozenset(_names(before, after, ""))


def _names(before: Any, after: Any, front: str) -> Iterable[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            old, new = before.get(name, _NOTHING), after.get(name, _NOTHING)
            yield from _names(old, new, f"{front}.{name}" if front else str(name))
    elif front and not is_same(before, after):
        yield front


def differs(before: Any, after: Any, names: Iterable[str]) -> bool:
    """Tell whether one of some members differs, by dotted names: ``"tenant.address.city"``.

    A name may lead through a list, and then means that member of each of its items.
    """
    return any(
        not is_same(_value(before, parts), _value(after, parts))
        for parts in (each.split(".") for each in names)
    )


def _value(form: Any, parts: list[str]) -> Any:
    if not parts:
        return form
    if isinstance(form, list):
        return [_value(each, parts) for each in form]
    if isinstance(form, dict) and parts[0] in form:
        return _value(form[parts[0]], parts[1:])
    return _NOTHING


@dataclass(frozen=True)
class FormChange:
    """What ``condition()`` is asked about: an object, as one owner would be told of it.

    ``before`` and ``after`` are serialized forms, as a receiver reads them.
    """

    #: ``"created"``, ``"updated"`` or ``"deleted"``.
    operation: str
    #: The object as the database has it now; ``None`` if it is deleted.
    instance: Any
    #: The owner that is told, as ``get_owner()`` gave it; ``None`` for a resource without owners.
    owner: Any
    #: Its form before the session; ``None`` if there was none, or if it is not known.
    before: Any
    #: Its form now; ``None`` if it is deleted.
    after: Any

    @cached_property
    def changed_fields(self) -> frozenset[str] | None:
        """The dotted names of the members that differ; ``None`` if there are not two forms."""
        if self.before is None or self.after is None:
            return None
        return changed_names(self.before, self.after)

    def has_changed(self, *names: str) -> bool:
        """Tell whether one of some members differs, by dotted names; any at all without names.

        True if there are not two forms to compare.
        """
        if self.before is None or self.after is None:
            return True
        return differs(self.before, self.after, names) if names else bool(self.changed_fields)
