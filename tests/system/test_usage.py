"""
``twistd upload``: its help, and wrong options.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import run_twistd
from tests.support.twistd import ASCII, assert_one_line, refusal_to_start
from twisted_upload.config.options import OPTIONS
from twisted_upload.core.text import parse_duration, parse_size
from twisted_upload.daemon.tap import Options

INVALID: dict[str, list[str]] = {
    "port": ["http", "-1", "65536", "", "६"],
    "interface": ["localhost", "300.1.1.1", "[::1]"],
    "listen": [
        "6666",
        "",
        "tcp",
        "tcp:http",
        "tcp:0:nonsense=1",
        "tls:0:interface=127.0.0.1",
        "tls:0:key=no/such.pem:cert=no/such.pem",
        "ssl:0:interface=127.0.0.1",
        "haproxy:tcp:0",
        "unix:",
        "systemd:domain=INET:index=0",  # there is no such socket
        "carrier-pigeon:0",
    ],
    "http": ["http", "-1", "65536", "", "６"],
    "trust-forwarded": ["proxy", "127.0.0.1/8", ""],
    "resume-for": ["59s"],
    "max-partials": ["-1", "few", "", "1.5"],
    "max-partials-per-address": ["-1", "few", "", "1.5"],
    "page-title": ["a\nb", "\x1b[2J"],
    "page-text": ["\x1b[2J"],
    "tokens": [""],
    "invitation-keys": [""],
    "cors-origin": ["app.example", "https://app.example/page", "*", ""],
    "directory": [""],
    "store": ["inbox", "s3://ab", "s3://inbox//", "s3://inbox/a b", "https://host/inbox"],
    "forward": ["inbox", "s3://", "s3://inbox/../x"],
    "after-forward": ["", "delete"],
    "suffix": ["jpg", ".", "../x", ".a/b", ".jpg\n"],
    "names": ["", "original", "TIME"],
    "mode": ["rw", "999", "-1", "01000", "0240"],
    "reserve": ["some", "-1", "101%"],
    "answer": ["", "a\nb", "上传失败: empty", "x" * 1025, "\x1b[2J"],
    "finish-after-idle": ["soon", "-1", "60s"],
    "max-connections": ["0", "-1", "many", "", "10000000"],
    "max-per-address": ["-1", "few", "", "1.5"],
    "allow": ["example.org", "192.0.2.7/24", "192.0.2.0/33", "", "fe80::1%lo"],
    "deny": ["localhost", "2001:db8::7/32", "192.0.2", ""],
    "proxy-from": ["127.0.0.1", "balancer", "127.0.0.1/8", ""],
    "on-upload": ["'", "bin/program", "'' x"],
    "on-upload-jobs": ["0", "many", "65"],
    "on-upload-attempts": ["0", "many", "1001"],
    "disk-threads": ["0", "many", "257"],
    "node": ["One", "-a", "a-", "a_b", "a.b", "a\n", "x" * 33, "é"],
    "workers": ["0", "many", "257"],
    "metrics": ["nonsense", "65536", "-1", "६", "tls:9464", "tcp:", "tcp:x", "tcp6:-1", "unix:"],
    "metrics-host": ["", "a b", "http://a", "a:80", "a..b", "é.example", "a" * 254],
    "config": ["missing.toml", ""],
    "log-format": ["xml", ""],
    "journal": [""],
    "journal-keep": ["many", "-1", "1001"],
}

"""Invalid values for an option."""

INVALID_BY_KIND: dict[object, list[str]] = {
    parse_duration: ["soon", "-1s", "inf", "9999999h", ""],
    parse_size: ["big", "-1", "1X", "nan", "500/s", ""],
}
"""Invalid values for every option of a kind."""

KINDS = {option.name: option.convert for option in OPTIONS}


def takes_value(option: str) -> bool:
    return option.endswith("=")


def wrong_values(option: str) -> list[str]:
    name = option.rstrip("=")
    if not takes_value(option):
        return [f"--{name}=yes"]
    wrong = [*INVALID.get(name, ()), *INVALID_BY_KIND.get(KINDS.get(name), ())]
    assert wrong, f"add invalid values for --{name} to INVALID"
    return [f"--{name}={value}" for value in wrong]


@pytest.mark.parametrize("option", [*filter(takes_value, Options().longOpt), "receipts"])
def test_invalid_values(tmp_path: Path, option: str) -> None:
    """A wrong value of any option is an error of one line that names it, with status 2."""
    wrong = wrong_values(option)
    if option != "listen=":  # for the others one value is enough; see the next test
        wrong = wrong[:1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda value: refusal_to_start(tmp_path, value), wrong))
    bad = []
    for value, result in zip(wrong, results, strict=True):
        try:
            assert_one_line(result, f"--{option.rstrip('=')}", 2)
        except AssertionError as error:
            bad.append(f"{value!r}: {error}")
    assert not bad, "\n\n".join(bad)


@pytest.mark.parametrize("option", [option for option in Options().longOpt if option != "listen="])
def test_more_invalid_values(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every invalid value is such an error; tested without a process for each."""
    for wrong in wrong_values(option):
        with pytest.raises(SystemExit) as ended:
            Options().parseOptions([wrong])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        result = subprocess.CompletedProcess(wrong, code, out, err)
        assert_one_line(result, f"--{option.rstrip('=')}", 2)


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("--nonsense", "--nonsense"),
        ("--nonsense=1", "--nonsense"),
        ("--max-sise=1", "--max-sise: no such option; the nearest is --max-size"),
        ("nonsense", "nonsense"),
        ("--port", "--port"),
    ],
)
def test_unknown_argument(tmp_path: Path, argument: str, names: str) -> None:
    """An unknown option, or one without its value, is an error of one line."""
    assert_one_line(refusal_to_start(tmp_path, argument), names, 2)


@pytest.mark.parametrize("value", ["tcp:http", "carrier-pigeon:0", "tls:0:interface=127.0.0.1"])
def test_endpoints_of_http(tmp_path: Path, value: str) -> None:
    """An endpoint that does not exist is an error of one line."""
    assert_one_line(refusal_to_start(tmp_path, f"--http={value}"), "--http", 2)


@pytest.mark.parametrize("kind", ["ssl", "haproxy"])
def test_endpoints_without_half_close(tmp_path: Path, kind: str) -> None:
    """An endpoint without half-close is an error, and the line says why."""
    result = refusal_to_start(tmp_path, f"--listen={kind}:0")
    assert_one_line(result, "half-close", 2)
    assert f"{kind}:" in result.stderr


def test_help(tmp_path: Path) -> None:
    """--help lists every option with its default and its unit."""
    result = run_twistd(tmp_path, "upload", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "   only" not in result.stdout
    text = re.sub(r"\s+", " ", result.stdout)
    described = dict(re.findall(r"--([a-z-]+)=? (.*?)(?= --[a-z-]+=? [A-Z]|\Z)", text))
    without_default = {
        "listen",
        "http",
        "trust-forwarded",
        "page-title",
        "page-text",
        "tokens",
        "invitation-keys",
        "cors-origin",
        "allow",
        "deny",
        "proxy-from",
        "metrics-host",
        "config",
        "journal",
        "help",
        "version",
    }
    for option in Options().longOpt:
        name = option.rstrip("=")
        assert described[name], name
        if takes_value(option) and name not in without_default:
            assert "[default: " in described[name], name
    assert "Maximum size" in described["max-size"]
    for name in ("idle-timeout", "finish-after-idle", "drain"):
        assert re.search(r"\[default: (\d+(ms|s|m|h)|0)\]", described[name]), name
    assert "durations are seconds" in text
    assert "512K" in text


def test_help_in_ascii(tmp_path: Path) -> None:
    """--help works on a terminal without Chinese."""
    result = run_twistd(tmp_path, "upload", "--help", environment=ASCII)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--answer" in result.stdout


def test_interface_without_port(tmp_path: Path) -> None:
    """--interface needs --port: without effect, it is an error."""
    result = run_twistd(
        tmp_path,
        *("-n", "--pidfile=", "upload", "--listen=tcp:0:interface=127.0.0.1"),
        "--interface=127.0.0.1",
    )
    assert_one_line(result, "--interface", 2)


@pytest.mark.parametrize("option", ["--help", "--print-config", "--check"])
def test_standard_output_is_full(tmp_path: Path, option: str) -> None:
    """A write error on standard output is one line, and status 1."""
    to_full = ["sh", "-c", 'exec "$@" > /dev/full', "sh"]
    result = run_twistd(tmp_path, "upload", "--port=0", option, before=to_full)
    says = "twistd upload: standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, says)
