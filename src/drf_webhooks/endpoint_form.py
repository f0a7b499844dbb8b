"""The form that the admin has for an endpoint."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from drf_webhooks import versions
from drf_webhooks.conf import config
from drf_webhooks.delivery.formats import names, problem
from drf_webhooks.fields import HeadersFormField
from drf_webhooks.models import Endpoint
from drf_webhooks.secret_keys import generate

__all__ = ["EndpointForm"]


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """An endpoint with the formats that can be used here, and without what is secret of it."""

    signature = forms.ChoiceField(
        label=_("Signature"),
        choices=[("v1", _("HMAC, with a secret (v1)")), ("v1a", _("ed25519, public key (v1a)"))],
        required=False,
        help_text=_("For a secret that is made."),
    )

    class Meta:
        model = Endpoint
        fields = (
            "owner",
            "url",
            "event_types",
            "description",
            "state",
            "method",
            "format",
            "version",
            "is_thin",
            "headers",
            "secret",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headers = dict(self.instance.headers) if "headers" in self.fields else {}
        if "secret" not in self.fields:
            del self.fields["signature"]
        else:
            self.fields["secret"] = forms.CharField(
                label=self.fields["secret"].label,
                # Not shown again after a mistake.
                widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
                required=False,
                help_text=_("By default one is made, and shown once."),
            )
        if "format" in self.fields:
            choices = [(name, name) for name in names(config())]
            self.fields["format"] = forms.ChoiceField(
                # The first one would be offered else.
                choices=choices,
                label=self.fields["format"].label,
                initial=Endpoint._meta.get_field("format").get_default(),
            )

        if "version" in self.fields:
            field = self.fields["version"]
            self.fields["version"] = forms.ChoiceField(
                choices=self._versions(),
                label=field.label,
                help_text=field.help_text,
                required=False,
                initial=field.initial,
            )

    def _versions(self) -> list[tuple[str, Any]]:
        known, own = versions.known(), self.instance.version
        is_new = self.instance._state.adding
        nothing: Any = (
            _("the one for new endpoints (%s)") % versions.default()
            if is_new
            else _("none: the oldest of each resource")
        )
        # One that nothing has any more stays until somebody chooses another.
        kept = [own] if own and own not in known else []
        return [("", nothing), *((each, each) for each in [*kept, *known])]

    def clean_format(self) -> str:
        chosen: str = self.cleaned_data["format"]
        if found := problem(chosen, config()):
            raise forms.ValidationError(found)
        return chosen

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "secret" in self.fields and not cleaned.get("secret"):
            cleaned["secret"] = generate(cleaned.get("signature") or "v1")
        return cleaned

    def clean_headers(self) -> dict[str, str]:
        field = self.fields["headers"]
        assert isinstance(field, HeadersFormField)  # noqa: S101  # for the types only
        return field.kept(self.cleaned_data["headers"], self._headers)
