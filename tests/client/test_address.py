from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.client import AddressError, is_loopback, normalise_address


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("127.0.0.1:8188", "http://127.0.0.1:8188"),
        ("127.0.0.1", "http://127.0.0.1:8188"),
        ("localhost/", "http://localhost:8188"),
        ("http://render-box", "http://render-box:8188"),
        ("HTTP://Render-Box:9000/", "http://render-box:9000"),
        ("https://maquette.example.org", "https://maquette.example.org:443"),
        ("https://maquette.example.org:8443/v1/health?x=1#y", "https://maquette.example.org:8443"),
        ("  http:// box : 8188 / ", "http://box:8188"),
        ("'http://box:1'", "http://box:1"),
        ("<http://box>", "http://box:8188"),
        ("http:/box", "http://box:8188"),
        ("http//box", "http://box:8188"),
        ("//box:7", "http://box:7"),
        ("http://http://box", "http://box:8188"),
        (r"http:\\box\v1", "http://box:8188"),
        ("box:", "http://box:8188"),
        ("box.", "http://box:8188"),
        ("8188", "http://127.0.0.1:8188"),
        (":9000", "http://127.0.0.1:9000"),
        ("0.0.0.0:8188", "http://127.0.0.1:8188"),
        ("[::]:8188", "http://[::1]:8188"),
        ("::1", "http://[::1]:8188"),
        ("[::1]", "http://[::1]:8188"),
        ("http://[2001:DB8:0::1]:80/", "http://[2001:db8::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8188"),
        ("bücher.example", "http://xn--bcher-kva.example:8188"),
        ("my_box", "http://my_box:8188"),
    ],
)
def test_what_people_type(typed: str, address: str):
    assert normalise_address(typed) == address


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("http://", "names no computer"),
        ("my box", "names no computer"),
        ("ftp://box", "only http:// and https:// are spoken"),
        ("user:secret@box", "holds a user name"),
        ("box:99999", "a port is a number from 1 to 65535"),
        ("box:0", "a port is a number from 1 to 65535"),
        ("box:port", "a port is a number from 1 to 65535"),
        ("box:٣", "a port is a number from 1 to 65535"),
        ("[::1", "unclosed bracket"),
        ("[::1]8188", "unclosed bracket"),
        ("1.2.3", "names no computer"),
        ("256.1.1.1", "names no computer"),
        ("1::2::3", "names no computer"),
        ("-box", "names no computer"),
        ("a" * 300, "names no computer"),
        ("a..b", "names no computer"),
    ],
)
def test_what_cannot_be_used_is_said(typed: str, words: str):
    with pytest.raises(AddressError, match=re.escape(words)):
        normalise_address(typed)


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
)
junk = st.sampled_from(["", "/", "/v1/videos", "?a=b", "#x", " ", "/ "])


@given(
    hosts, st.one_of(st.none(), st.integers(1, 65535)), st.sampled_from(["", "http://", "HTTP://", "//"]), junk, junk
)
def test_the_form_that_is_typed_does_not_matter(host: str, port: int | None, scheme: str, after: str, space: str):
    typed = f"{' ' * len(space)}{scheme}{host}{'' if port is None else f':{port}'}{after}"
    address = normalise_address(typed)
    assert address.startswith("http://") and address.endswith(f":{port or 8188}")
    assert normalise_address(address) == address
    given_host = address.removeprefix("http://").rsplit(":", 1)[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        assert given_host == host
    else:
        assert ipaddress.ip_address(given_host) == ip or ip.is_unspecified


@given(st.text(max_size=40))
def test_any_text_gives_an_address_or_a_sentence(text: str):
    try:
        address = normalise_address(text)
    except AddressError as error:
        assert str(error).startswith("The backend address") and str(error).endswith(".")
    else:
        assert re.fullmatch(r"https?://(\[[0-9a-f:.]+(%25[\w.~-]+)?\]|[a-z0-9._-]+):\d{1,5}", address)
        assert normalise_address(address) == address


@pytest.mark.parametrize(
    ("typed", "here"),
    [("localhost", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", True), ("box", False), ("10.0.0.1", False)],
)
def test_whether_anything_leaves_this_computer(typed: str, here: bool):
    assert is_loopback(normalise_address(typed)) is here
