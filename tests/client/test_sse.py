from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.client.sse import read_events

values = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20)), max_size=3)


@given(st.lists(values, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 40), max_size=30))
def test_events_survive_any_split(items: list[dict], end: str, cuts: list[int]):
    text = f": hello{end}{end}"
    for item in items:
        text += f"id: 7{end}event: job{end}data: {json.dumps(item)}{end}{end}"
    # A stream goes on after its last event; only then is a lone carriage return known to end a line.
    data = (text + f": bye{end}").encode()
    chunks, at = [], 0
    for size in cuts:
        chunks.append(data[at : at + size])
        at += size
    chunks.append(data[at:])
    assert list(read_events(chunks)) == [("job", item) for item in items]


def test_data_over_several_lines_and_what_is_no_json():
    stream = [b"data: {\ndata: }\n\n", b"data: nonsense\n\n", b"event: end\ndata:1\n\n", b"data: 2"]
    assert list(read_events(stream)) == [("message", {}), ("end", 1)]


def test_a_line_without_end_is_not_collected_for_ever():
    def endless():
        while True:
            yield b"x" * 65536

    assert list(read_events(endless())) == []
