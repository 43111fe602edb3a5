"""The browser view: overlay and events as a page, for machines without a display."""

from realtime_mer.output.web.view import WebView

__all__ = ["WebView"]
