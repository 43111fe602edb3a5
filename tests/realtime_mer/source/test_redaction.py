"""What is shown of a source: no credentials, and no control characters."""

import pytest

from realtime_mer.source.redaction import redacted


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("clip.avi", "clip.avi"),
        ("mail@home?token=1.avi", "mail@home?token=1.avi"),  # a file name is no address
        ("http://host/x", "http://host/x"),
        ("rtsp://u:p@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://u:p@ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa/ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa?ss#w@host/x", "rtsp://***@host/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://h/x?Token=1&profile=2", "http://h/x?Token=***&profile=2"),
        ("http://h/x?a=1;PASSWORD=2", "http://h/x?a=1;PASSWORD=***"),
        ("http://h/x?%74oken=1", "http://h/x?%74oken=***"),
        ("http://h/x?q=eyJhbGciOiJIUzI1NiJ9", "http://h/x?q=***"),
        ("http://h/x#access_token=1", "http://h/x#access_token=***"),
        ("evil\x1b[2J\n.avi", "evil\\x1b[2J\\n.avi"),
        ("bytes\udcff.avi", "bytes\\udcff.avi"),
    ],
)
def test_what_is_shown_of_a_source(source, shown):
    assert redacted(source) == shown
