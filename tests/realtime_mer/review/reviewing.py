"""A review that is being served, and requests to it."""

import contextlib
import json
import threading
import urllib.error
import urllib.parse
import urllib.request

from realtime_mer.review.server import Review


@contextlib.contextmanager
def reviewing(results, name="ana"):
    with Review(results.path, name) as review:
        thread = threading.Thread(target=review.run)
        thread.start()
        try:
            get(review.url + "events")
            yield review
        finally:
            review.stop()
            thread.join()


def get(url, data=None, **headers):
    """(status, headers, body) of a page."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(urllib.parse.quote(url, safe=":/"), data, names)
    try:
        with urllib.request.urlopen(request, timeout=20) as page:
            return page.status, page.headers, page.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def read(review, name):
    status, _, body = get(review.url + name)
    assert status == 200, body
    return json.loads(body)


def send(review, name, **values):
    """(status, message) of a command."""
    data = json.dumps(values).encode()
    status, _, body = get(review.url + name, data, Content_Type="application/json")
    return status, json.loads(body)


def decide(review, event, **changes):
    """The answer to a decision about an event as the page knows it."""
    thought = {"verdict": None, "label": None, "took_s": None}
    thought |= {name: event[name] for name in ("onset_s", "offset_s") if name in event}
    return send(review, "decide", **(thought | {"event": event["id"]} | changes))
