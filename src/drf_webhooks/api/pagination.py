"""Pages by a unique key, which end whatever many rows share, and pages of a feed."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import BasePagination, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from drf_webhooks import feed
from drf_webhooks.models import Delivery, Feed

__all__ = ["FeedPagination", "KeyPagination"]

_HIGHEST = 2**63 - 1
#: So many lots of places that the owner may not see are passed over in one request.
_MOST_LOTS = 20


class KeyPagination(CursorPagination):
    """The newest first, by the primary key: never by a time, which a thousand rows may share."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    ordering = "-pk"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        self._key = queryset.model._meta.pk
        return super().paginate_queryset(queryset, request, view)

    def get_paginated_response_schema(self, schema: Any) -> Any:
        """Describe an answer; OpenAPI 3.1 has no ``nullable``, which DRF writes."""
        described: Any = super().get_paginated_response_schema(schema)
        version = getattr(settings, "SPECTACULAR_SETTINGS", {}).get("OAS_VERSION", "3.0")
        if not str(version).startswith("3.0"):
            for each in described["properties"].values():
                if each.pop("nullable", False):
                    each["type"] = [each["type"], "null"]
        return described

    def decode_cursor(self, request: Request) -> Any:
        """Read the cursor; what could be no key is an invalid one."""
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                value = self._key.to_python(cursor.position)
                self._key.run_validators(value)
            except Exception as error:  # whatever a project's kind of key may raise
                raise NotFound(self.invalid_cursor_message) from error
            if isinstance(value, int) and not 0 <= value <= _HIGHEST:
                raise NotFound(self.invalid_cursor_message)
        return cursor


class FeedPagination(BasePagination):
    """``?after=<position>&limit=``: what comes after a place in the feed of an endpoint."""

    default_limit = 50
    max_limit = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Return the page; what is committed gets its place now, if nobody has read so far."""
        self._after = _number(request, "after", default=0, lowest=0, highest=_HIGHEST)
        limit = _number(
            request, "limit", default=self.default_limit, lowest=1, highest=self.max_limit
        )
        endpoint, using = view.endpoint.pk, view.owned.using
        placed = queryset.order_by("position")
        page = list(placed.filter(position__gt=self._after)[: limit + 1])
        last = page[-1].position if page else self._after
        for _ in range(_MOST_LOTS):
            room = limit + 1 - len(page)
            if not room or not feed.has_more(endpoint, using=using):
                break
            # Without a place there may be many that were sent to another owner.
            if not feed.extend(endpoint, room, using=using):
                break
            more = list(placed.filter(position__gt=last)[:room])
            page += more
            last = more[-1].position if more else last
        if not page:
            self._check(endpoint, using)
        self._has_more = len(page) > limit or feed.has_more(endpoint, using=using)
        self._page = page[:limit]
        return self._page

    def _check(self, endpoint: Any, using: str) -> None:
        """Refuse a place that nobody can have been given: from another database, or a backup."""
        last = Feed.objects.using(using).filter(pk=endpoint).values_list("last", flat=True).first()
        if self._after > (last or 0):
            msg = f"There is no position {self._after} yet; the last one is {last or 0}."
            raise ValidationError({"after": [msg]})

    def get_paginated_response(self, data: Any) -> Response:
        page: list[Delivery] = self._page
        last = page[-1].position if page else self._after
        return Response({"after": last, "has_more": self._has_more, "results": data})

    def get_paginated_response_schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["after", "has_more", "results"],
            "properties": {
                "after": {
                    "type": "integer",
                    "description": "The position to ask from next time: that of the last message.",
                },
                "has_more": {"type": "boolean"},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "after",
                "required": False,
                "in": "query",
                "description": "The position of the last message that was read; 0 for none.",
                "schema": {"type": "integer", "minimum": 0},
            },
            {
                "name": "limit",
                "required": False,
                "in": "query",
                "description": "How many messages at most.",
                "schema": {"type": "integer", "minimum": 1, "maximum": self.max_limit},
            },
        ]


def _number(request: Request, name: str, *, default: int, lowest: int, highest: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # Not "+1", "1_000" or digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(highest)):
        raise ValidationError({name: [f"{text[:20]!r} is no whole number."]})
    number = int(text)
    if not lowest <= number <= highest:
        raise ValidationError({name: [f"It must be {lowest} to {highest}."]})
    return number
