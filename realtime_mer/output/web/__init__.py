"""A session in browsers and for programs: a page for machines without a display, and an API."""

from realtime_mer.output.web.commands import PageControls
from realtime_mer.output.web.view import WebView

__all__ = ["PageControls", "WebView"]
