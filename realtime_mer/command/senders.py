"""What the options ask to send to other programs while a session runs."""

from __future__ import annotations

import argparse

from realtime_mer.output.senders.sender import Link


def links_of(options: argparse.Namespace) -> list[Link]:
    """The ways to other programs that the options name.

    Raises:
        InputError: One of them cannot work here; nothing has been opened.
    """
    links: list[Link] = []
    # Each library is imported for those who ask for it.
    if options.lsl or options.lsl_network:
        from realtime_mer.output.senders.lsl import LslLink

        links.append(LslLink(options.faces, network=options.lsl_network))
    if options.osc is not None:
        from realtime_mer.output.senders.osc import OscLink

        links.append(OscLink(options.osc.host, options.osc.port))
    if options.mqtt is not None:
        from realtime_mer.output.senders.mqtt import MqttLink

        links.append(MqttLink(options.mqtt))
    return links
