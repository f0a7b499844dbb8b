"""What all lists have in common: they cost the same for a million rows, and facts stay facts."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from drf_webhooks.admin.markup import NOTHING, Table
from drf_webhooks.admin.tools import ToolsAdmin

__all__ = ["BoundedPaginator", "FactAdmin", "WebhooksAdmin", "newest"]

#: A list has no more rows than these: who wants others has to say what they are looking for.
_MOST_COUNTED = 10_000
#: A question that no index answers is asked of so many of the newest rows.
_MOST_READ = 100_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Counts no further than a person turns pages."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, _MOST_COUNTED)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than pages for them."""
        return self._counted > _MOST_COUNTED

    @cached_property
    def _counted(self) -> int:
        rows: QuerySet[Model] = self.object_list  # type: ignore[assignment]  # the admin's
        return rows.order_by()[: _MOST_COUNTED + 1].count()


def newest(rows: QuerySet[Any], column: str) -> QuerySet[Any]:
    """Leave the newest rows only, for what else would read all.

    Args:
        rows: Whose columns no index finds.
        column: The one by which rows become newer, with an index of its own.

    """
    ordered = rows.model._default_manager.using(rows.db).order_by(f"-{column}")
    first = list(ordered.values_list(column, flat=True)[_MOST_READ - 1 : _MOST_READ])
    return rows.filter(**{f"{column}__gte": first[0]}) if first else rows


class FactList(ChangeList):
    """A list in the order of an index, whatever the address asks for."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)


class WebhooksAdmin(ToolsAdmin):
    """A list that counts to a limit, and pages that show what belongs to a row."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200
    #: An action of a list does no more at once. The page that asks for a reason has a field for
    #: each of them, and Django takes a thousand fields.
    most_chosen: ClassVar[int] = 500
    #: Says what is for more.
    too_many: ClassVar[Any] = _("Choose %d at most. For more there is the command webhooks_replay.")
    change_form_template = "admin/drf_webhooks/change_form.html"

    class Media:
        css = {"all": ("drf_webhooks/admin.css",)}  # noqa: RUF012  # Django's way

    def chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Return what was chosen for an action, or say that it is too much for one request."""
        pks = list(queryset.order_by().values_list("pk", flat=True)[: self.most_chosen + 1])
        if len(pks) <= self.most_chosen:
            rows: QuerySet[Any] = self.model._default_manager.using(queryset.db)
            return rows.filter(pk__in=pks)
        self.message_user(request, self.too_many % self.most_chosen, messages.ERROR)
        return None

    def tables(self, request: HttpRequest, row: Any) -> list[Table]:
        """Return what is shown below a row's fields."""
        return []

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context["tables"] = self.tables(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def log_changes(self, request: HttpRequest, rows: Iterable[Any], message: str) -> None:
        """Write down who did what to many rows."""
        user: Any = request.user
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, message, single_object=False)


class FactAdmin(WebhooksAdmin):
    """Rows that are facts: to look at, not to change."""

    #: Other columns have no index to be sorted by.
    sortable_by = ()
    #: Fields that are left out when there is nothing in them.
    optional: Collection[str] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FactList

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        found = super().get_fieldsets(request, obj)
        return [
            (title, {**more, "fields": [each for each in more["fields"] if self._has(each, obj)]})
            for title, more in found
        ]

    def _has(self, name: Any, row: Model | None) -> bool:
        if name not in self.optional:
            return True
        own = getattr(self, name, None)
        return (getattr(row, name) if own is None else own(row)) not in {None, "", NOTHING}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
