"""
What the options say of who may come in.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress

from twisted_upload.config.facing import limits_of, slots_for
from twisted_upload.config.values import parse_trusted_proxy
from twisted_upload.daemon.tap import Options
from twisted_upload.frontends.admission import TrustedProxies
from twisted_upload.frontends.raw.factory import FrontendSettings
from twisted_upload.net.networks import parse_network


def _limits(**values: Any) -> FrontendSettings:
    given: dict[str, Any] = {
        "min-rate": 500,
        "max-per-address": 50,
        "allow": [],
        "deny": [],
        "proxy-protocol": False,
        "proxy-from": [],
    }
    given |= {name.replace("_", "-"): value for name, value in values.items()}
    return FrontendSettings(**limits_of(given))


def test_defaults() -> None:
    """The defaults of the options are those of the door."""
    limits = _limits()
    default = FrontendSettings()
    assert limits.min_rate == default.min_rate == 500
    assert limits.max_per_address == default.max_per_address == 50
    assert not limits.rules
    assert not default.rules
    assert limits.trusted_proxies is default.trusted_proxies is None


def test_rules() -> None:
    """Networks become rules."""
    rules = _limits(allow=[parse_network("10.0.0.0/8")], deny=[parse_network("10.1.0.0/16")]).rules
    assert rules.allows("10.2.0.1")
    assert not rules.allows("10.1.0.1")
    assert not rules.allows("11.0.0.1")


def test_balancers() -> None:
    """Balancers are networks, or unix."""
    believed: TrustedProxies | None = _limits(
        proxy_protocol=True, proxy_from=[parse_trusted_proxy("10.0.0.0/8")]
    ).trusted_proxies
    assert believed is not None
    assert IPv4Address("TCP", "10.1.2.3", 1) in believed
    assert UNIXAddress(b"") not in believed
    believed = _limits(
        proxy_protocol=True, proxy_from=[parse_trusted_proxy("unix")]
    ).trusted_proxies
    assert believed is not None
    assert UNIXAddress(b"") in believed
    assert IPv4Address("TCP", "10.1.2.3", 1) not in believed


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"proxy_protocol": True}, r"proxy-protocol: .*--proxy-from"),
        ({"proxy_from": [None]}, r"proxy-from: .*--proxy-protocol"),
        (
            {"allow": [parse_network("::/0")], "deny": [parse_network("::/0")]},
            r"deny: ::/0 is both allowed and denied",
        ),
    ],
)
def test_disagreement(values: dict[str, Any], says: str) -> None:
    """What does not go together is said so, by the name of an option."""
    with pytest.raises(ValueError, match=says):
        _limits(**values)


def test_places() -> None:
    """The places are those that the descriptors are enough for, or those asked for."""
    assert slots_for(None).most > 0
    assert slots_for(7).most == 7


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--proxy-protocol"], "--proxy-protocol: "),
        (["--proxy-from=unix"], "--proxy-from: "),
        (["--allow=10.0.0.0/8", "--deny=10.0.0.0/8"], "--deny: "),
    ],
)
def test_disagreement_on_the_command_line(
    options: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one line that names the option, and status 2."""
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(options)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"twistd upload: {names}")
    assert error.count("\n") == 1
