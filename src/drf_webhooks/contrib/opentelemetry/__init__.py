"""Spans of attempts, in the trace of the change; needs the extra ``otel``."""
