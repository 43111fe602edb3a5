"""An LSL receiver as other programs have one: a process of its own that prints what it gets.

Arguments: how the streams' names begin, and a part of the source's name that each must have. Each
line is a JSON object; it ends when its standard input does.
"""

import json
import os
import sys
import threading

import pylsl

pylsl.set_config_content("[log]\nlevel = -3\n")


def say(**what) -> None:
    # One call: several threads write.
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def header(inlet) -> dict:
    desc = inlet.info(10).desc()
    channels, channel = [], desc.child("channels").child("channel")
    while not channel.empty():
        channels.append([channel.child_value(k) for k in ("label", "unit", "type")])
        channel = channel.next_sibling()
    made_by = desc.child("acquisition")
    return {
        "channels": channels,
        "source": made_by.child_value("source"),
        "time_stamps": made_by.child_value("time_stamps"),
    }


def pull(inlet, name: str) -> None:
    # How its clock differs.
    correction = inlet.time_correction(10)
    say(ready=name)
    while True:
        sample, stamp = inlet.pull_sample(timeout=1)
        if sample is not None:
            say(stream=name, sample=sample, stamp=stamp + correction)


def main(beginning: str, source: str, count: int) -> None:
    found = {}
    while len(found) < count:
        for info in pylsl.resolve_streams(1.0):
            if info.name().startswith(beginning) and info.source_id() not in found:
                inlet = pylsl.StreamInlet(info, recover=True)
                told = header(inlet)
                if source in told["source"]:
                    found[info.source_id()] = inlet
                    inlet.open_stream(10)
                    say(
                        stream=info.name(),
                        type=info.type(),
                        source_id=info.source_id(),
                        rate=info.nominal_srate(),
                        format=info.channel_format(),
                        xml=inlet.info(10).as_xml(),
                        **told,
                    )
    for inlet in found.values():
        threading.Thread(target=pull, args=[inlet, inlet.info().name()], daemon=True).start()
    sys.stdin.read()
    # The library waits for streams that are gone.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
