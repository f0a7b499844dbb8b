"""The journal: which rows the database itself saw change, until somebody has noted them."""

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["RowChange"]


class RowChange(models.Model):
    """One row that a statement inserted, updated or deleted; written by triggers only."""

    class Operation(models.TextChoices):
        INSERT = "insert", _("insert")
        UPDATE = "update", _("update")
        DELETE = "delete", _("delete")

    id = models.BigAutoField(primary_key=True)
    transaction = models.CharField(
        _("transaction"),
        max_length=20,
        db_index=True,
        help_text=_("The database's own number of it, as text."),
    )
    # Its name, for triggers follow a table that is renamed, and a model's label does not.
    table = models.CharField(_("table"), max_length=63)
    operation = models.CharField(_("operation"), max_length=6, choices=Operation.choices)
    key = models.JSONField(_("key"), help_text=_("The values of the primary key, in a list."))
    before = models.JSONField(
        _("before"), null=True, help_text=_("The keys that the row held, by column.")
    )
    after = models.JSONField(
        _("after"), null=True, help_text=_("The keys that the row holds, by column.")
    )
    columns = models.JSONField(
        _("columns"), default=list, help_text=_("Which ones an update changed.")
    )
    silent = models.TextField(
        _("silent"), default="", help_text=_("Resources that were disabled, by base_name.")
    )

    class Meta:
        verbose_name = _("row change")
        verbose_name_plural = _("row changes")

    def __str__(self) -> str:
        return f"{self.operation} {self.table} {self.key}"
