"""
Building front ends from the configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

from tests.support.configurations import configured_listeners
from twisted_upload.config.configuration import configure
from twisted_upload.config.options import ListenerSettings
from twisted_upload.daemon.frontends import frontend_settings
from twisted_upload.disk.files import Files
from twisted_upload.frontends.raw.settings import RawSettings


def test_frontend_settings(tmp_path: Path) -> None:
    """A front end gets the values of its listener; the defaults agree."""
    (listener,) = configure({}, {}, "/").listeners
    assert frontend_settings(listener, Files()) == RawSettings()
    (listener,) = configured_listeners(
        tmp_path,
        "answer = 'OK'\nreceipts = true\nmax-size = 1\nidle-timeout = 3\nfinish-after-idle = 2\n"
        "allow-empty = true\nmin-rate = 4\nmax-per-address = 5\nallow = '10.0.0.0/8'\n"
        "proxy-protocol = true\nproxy-from = 'unix'",
    ).listeners
    assert frontend_settings(listener, Files()) == RawSettings(
        answer="OK",
        receipts=True,
        max_size=1,
        idle_timeout=3.0,
        finish_after_idle=2.0,
        allow_empty=True,
        min_rate=4,
        max_per_address=5,
        rules=listener.rules,
        trusted_proxies=listener.trusted_proxies,
    )


def test_fields_of_the_same_name() -> None:
    """Settings of a front end have the type of their option; all but a few are options."""
    options = get_type_hints(ListenerSettings)
    others = set()
    for name, wanted in get_type_hints(RawSettings).items():
        if name in options:
            assert options[name] is wanted, name
        else:
            others.add(name)
    assert others == {"rules", "trusted_proxies", "linger_time", "linger_size"}
