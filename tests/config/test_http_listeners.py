"""
Listeners that speak HTTP, in the configuration.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configurations import configured, wrong
from twisted_upload.config.configuration import Configuration
from twisted_upload.config.dump import toml_text
from twisted_upload.config.reload import Changes, reload


def where(configuration: Configuration) -> list[tuple[str, str]]:
    return [(it.name, it.protocol) for it in configuration.listeners]


@pytest.mark.parametrize(
    ("arguments", "listeners"),
    [
        ([], [("tcp-6666", "raw")]),
        (["http=8080"], [("http-8080", "http")]),
        (["port=7000", "http=8080"], [("tcp-7000", "raw"), ("http-8080", "http")]),
        (["listen=unix:/s", "http=8080"], [("unix-s", "raw"), ("http-8080", "http")]),
        (["http=tls:8443:key=k:cert=c"], [("http-tls-8443", "http")]),
        (["http=8080 tls:8443:key=k:cert=c"], [("http-8080", "http")]),
        (["http=unix:/run/x.sock"], [("http-unix-run-x-sock", "http")]),
        (["http=systemd:web"], [("http-systemd-web", "http")]),
    ],
)
def test_beside_or_instead(arguments: list[str], listeners: list[tuple[str, str]]) -> None:
    """--http adds a listener for HTTP; the raw one stays only if it is configured."""
    assert where(configured(*arguments)) == listeners


def test_same_settings() -> None:
    """All other settings apply to both listeners."""
    raw, http = configured("port=7000", "http=8080", "max-size=1M").listeners
    assert raw.settings.max_size == http.settings.max_size == 2**20
    assert (raw.settings.port, raw.settings.http) == (7000, ())
    assert (http.settings.port, http.settings.http) == (None, ("8080",))


def test_interface() -> None:
    """The interface applies to both ports."""
    raw, http = configured("port=7000", "http=8080", "interface=127.0.0.1").listeners
    assert raw.settings.interface == http.settings.interface == "127.0.0.1"
    raw, http = configured("listen=unix:/s", "http=8080", "interface=127.0.0.1").listeners
    assert (raw.settings.interface, http.settings.interface) == ("", "127.0.0.1")


def test_interface_without_a_port(tmp_path: Path) -> None:
    """An endpoint names its own interface."""
    assert wrong("http=tls:1:key=k", "interface=127.0.0.1", folder=tmp_path) == (
        "--interface: it needs a port; an endpoint names its own interface"
        " (tcp:6666:interface=127.0.0.1)"
    )


@pytest.mark.parametrize("text", ["http", "65536", "-1", "８０"])
def test_not_a_port(text: str, tmp_path: Path) -> None:
    """The error for a value that is neither a port nor an endpoint quotes it."""
    error = wrong(f"http={text}", folder=tmp_path)
    assert error.startswith(f"--http: '{text}' is n")


FILE = """
[[listener]]
name = "scanner"
port = 6666
[[listener]]
name = "web"
protocol = "http"
port = 8080
"""


def test_in_a_file(tmp_path: Path) -> None:
    """A listener in a file has a protocol."""
    configuration = configured(file=FILE, folder=tmp_path)
    assert where(configuration) == [("scanner", "raw"), ("web", "http")]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('protocol = "ftp"', "x.toml: listener web: protocol: 'ftp' is none of raw, http"),
        (
            "http = 8080",
            'x.toml: listener web: http: a listener has protocol = "http" instead, and a port or'
            " listen",
        ),
    ],
)
def test_wrong_in_a_file(line: str, error: str, tmp_path: Path) -> None:
    """An unknown protocol, and --http in a listener, are errors."""
    file = f'[[listener]]\nname = "web"\nport = 8080\n{line}\n'
    assert wrong(file=file, folder=tmp_path) == error


def test_http_beside_named_listeners(tmp_path: Path) -> None:
    """If a file has listeners, --http is an error."""
    error = wrong("http=8080", file=FILE, folder=tmp_path)
    assert error.startswith("--http: not allowed, because the listeners in")


@pytest.mark.parametrize("arguments", [["http=8080"], ["port=7000", "http=8080 unix:/s"]])
def test_dumped(arguments: list[str], tmp_path: Path) -> None:
    """The output of --print-config gives the same listeners."""
    configuration = configured(*arguments)
    again = configured(file=toml_text(configuration), folder=tmp_path)
    assert where(again) == where(configuration)
    assert [it.settings for it in again.listeners] == [
        it.settings for it in configuration.listeners
    ]


def test_dumped_with_names(tmp_path: Path) -> None:
    """A listener from a file is printed with its protocol."""
    configuration = configured(file=FILE, folder=tmp_path)
    again = configured(file=toml_text(configuration), folder=tmp_path)
    assert where(again) == where(configuration)


def test_to_another_process() -> None:
    """A worker has the same listeners."""
    configuration = configured("port=7000", "http=8080")
    assert where(Configuration.from_json(configuration.to_json())) == where(configuration)


def test_reloaded() -> None:
    """A reload changes each listener; a new port needs a restart."""
    old = configured("port=7000", "http=8080", "max-size=1M")
    changes = Changes()
    new = reload(old, configured("port=7000", "http=8081", "max-size=2M"), changes)
    assert [it.settings.max_size for it in new.listeners] == [2**21, 2**21]
    assert where(new) == where(old)
    assert changes.waiting == ["http"]


def test_protocol_is_not_reloaded(tmp_path: Path) -> None:
    """A change of the protocol needs a restart."""
    changes = Changes()
    other = FILE.replace('"http"', '"raw"')
    old, new = (configured(file=it, folder=tmp_path) for it in (FILE, other))
    assert where(reload(old, new, changes)) == where(old)
    assert changes.waiting == ["web: protocol"]


def test_tls_behind_the_proxy_protocol(tmp_path: Path) -> None:
    """The PROXY header comes before TLS, which a load balancer therefore terminates."""
    error = wrong(
        "http=tls:8443:key=k:cert=c", "proxy-protocol", "proxy-from=10.0.0.0/8", folder=tmp_path
    )
    assert error.startswith("--http: tls: cannot be combined with proxy-protocol")


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("resume-for=59s", "--resume-for: '59s' is less than a minute"),
        ("trust-forwarded=proxy", "--trust-forwarded: 'proxy' is not"),
        ("page-title=two\nlines", "--page-title: it contains characters that cannot be shown"),
        ("page-text=\033[2J", "--page-text: it contains characters that cannot be shown"),
        ("page-text=" + 4001 * "x", "--page-text: it has more than 4000 characters"),
    ],
)
def test_wrong_values(argument: str, error: str, tmp_path: Path) -> None:
    """Values that cannot be used are named."""
    assert wrong(argument, folder=tmp_path).startswith(error)


def test_values() -> None:
    """How long uploads can be resumed, and which proxies are believed, may be set."""
    (listener,) = configured("http=8080", "resume-for=1h", "trust-forwarded=10.0.0.0/8").listeners
    assert listener.settings.resume_for == 3600
    assert [str(it) for it in listener.settings.trust_forwarded] == ["10.0.0.0/8"]


def test_words_of_the_page() -> None:
    """The title of the page is a line; its text may have several, in any language."""
    (listener,) = configured("http=8080", "page-title=扫描 & más", "page-text=one\ntwo").listeners
    settings = listener.settings
    assert (settings.page_title, settings.page_text) == ("扫描 & más", "one\ntwo")
    assert not settings.no_page


@pytest.mark.parametrize(
    "option", ["tokens=t", "invitation-keys=k", "cors-origin=https://a.example"]
)
def test_options_of_http_alone(option: str, tmp_path: Path) -> None:
    """What only a listener for HTTP can ask for is an error if there is none."""
    name = option.partition("=")[0]
    assert wrong(option, folder=tmp_path) == (
        f"--{name}: only listeners that speak HTTP have it: see --http"
    )
    assert where(configured(option, "http=8080", "port=7000", folder=tmp_path)) == [
        ("tcp-7000", "raw"),
        ("http-8080", "http"),
    ]


def test_options_of_http_in_a_file(tmp_path: Path) -> None:
    """In a file, a raw listener cannot have them itself; at the top they are for the others."""
    raw, http = (
        "[[listener]]\nname = 'r'\nport = 1\n",
        ("[[listener]]\nname = 'h'\nport = 2\nprotocol = 'http'\n"),
    )
    assert configured(file=f"tokens = 't'\n{raw}{http}", folder=tmp_path)
    assert wrong(file=f"{raw}tokens = 't'\n{http}", folder=tmp_path) == (
        "x.toml: listener r: tokens: only listeners that speak HTTP have it: see --http"
    )
