"""What can be done with one row: a button, or a page that asks first. Done by POST only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse

from drf_webhooks.exceptions import RotationError, SecretError

__all__ = ["Tool", "ToolsAdmin"]


class Tool:
    """One thing that can be done with a row.

    A tool with a ``form`` or an ``explanation`` asks on a page of its own, with the fields of
    the form; another one is done by its button.
    """

    #: In the address.
    name: ClassVar[str]
    #: On the button.
    label: Any
    #: That of ``has_…_permission()`` of the admin, which is asked for the row; to see the row is
    #: needed besides.
    permission: ClassVar[str] = "change"
    #: What happens, for who is asked.
    explanation: Any = ""
    form: type[forms.Form] | None = None
    #: Whether it takes something away.
    is_grave: ClassVar[bool] = False

    def is_possible(self, row: Any) -> bool:
        """Tell whether the row is such that it makes sense."""
        return True

    def initial(self, row: Any) -> dict[str, Any]:
        """Return what the form begins with."""
        return {}

    def run(
        self, site: "ToolsAdmin", request: HttpRequest, row: Any, given: dict[str, Any]
    ) -> HttpResponse | None:
        """Do it; by default the row's page follows.

        Raises:
            RotationError, SecretError, ValidationError, ValueError: it cannot be done; the
                message is shown.

        """
        raise NotImplementedError

    @property
    def asks(self) -> bool:
        """Whether it has a page of its own."""
        return bool(self.explanation) or self.form is not None


@dataclass(frozen=True)
class Button:
    """A tool on a row's page."""

    tool: Tool
    url: str


class ToolsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """An admin whose rows have tools."""

    tools: Sequence[Tool] = ()

    def get_urls(self) -> list[Any]:
        label, name = self.opts.app_label, self.opts.model_name
        view = self.admin_site.admin_view(self.tool_view)
        own = path("<path:object_id>/do/<slug:tool>/", view, name=f"{label}_{name}_tool")
        return [own, *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """Return what somebody may do with a row as it is now."""
        return [
            Button(each, self.page(self.model, "tool", row.pk, each.name))
            for each in self.tools
            if self._may(request, each, row) and each.is_possible(row)
        ]

    def _may(self, request: HttpRequest, tool: Tool, row: Model | None = None) -> bool:
        """Tell whether somebody sees the row, and may use the tool: on any row, for ``None``."""
        names = ("view", tool.permission)
        return all(getattr(self, f"has_{each}_permission")(request, row) for each in names)

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
            context["buttons"] = self.buttons(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def tool_view(self, request: HttpRequest, object_id: str, tool: str) -> HttpResponse:
        """Ask with GET, do with POST."""
        chosen = next((each for each in self.tools if each.name == tool), None)
        if chosen is None or not self._may(request, chosen):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            msg = f"There is no {self.opts.verbose_name} {object_id!r}."
            raise Http404(msg)
        if not self._may(request, chosen, row):
            raise PermissionDenied
        if request.method != "POST" and not chosen.asks:
            return HttpResponseNotAllowed(["POST"])
        kind = chosen.form or forms.Form
        form = kind(request.POST if request.method == "POST" else None, initial=chosen.initial(row))
        if not form.is_valid():
            return self.ask(request, row, chosen, form)
        try:
            answer = chosen.run(self, request, row, form.cleaned_data)
        except ValidationError as error:
            self.message_user(request, " ".join(error.messages), messages.ERROR)
        except (RotationError, SecretError, ValueError) as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            if answer is not None:
                return answer
        return HttpResponseRedirect(self.page(self.model, "change", row.pk))

    def page(self, model: type[Model], name: str, *args: object, **query: object) -> str:
        """Return the address of a page of this site, empty if the site has none for the model."""
        view = f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}"
        try:
            url = reverse(view, args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{url}?{urlencode(query)}" if query else url

    def may_view(self, request: HttpRequest, model: type[Model]) -> bool:
        """Tell whether somebody may see the rows of another model."""
        label, name = model._meta.app_label, model._meta.model_name
        user = request.user
        return user.has_perm(f"{label}.view_{name}") or user.has_perm(f"{label}.change_{name}")

    def ask(
        self,
        request: HttpRequest,
        row: Any,
        tool: Tool,
        form: forms.Form,
        *,
        rows: Iterable[Any] = (),
        action: str = "",
    ) -> HttpResponse:
        """Return the page of a tool; with ``rows`` that of an action of the list."""
        shown = {
            **self.admin_site.each_context(request),
            "title": tool.label,
            "opts": self.opts,
            "media": self.media,
            "original": row,
            "url": self.page(self.model, "change", row.pk) if row is not None else "",
            "rows": rows,
            "action": action,
            "tool": tool,
            "form": form,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/drf_webhooks/ask.html", shown)
