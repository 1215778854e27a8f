"""
The validity of certificates, and their renewal.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import provider

from tests.support.daemon import SUCCESS, Daemon, run_twistd, unprivileged, wait_until
from tests.support.scraping import Scraper
from tests.support.tls_peers import Peer, authority, client_context
from tests.support.waiting import reactor
from twisted_upload.daemon.certificate_expiry import LOOK_INTERVAL, Certificates, CertificateWatch
from twisted_upload.errors import CannotStart, WrongConfiguration
from twisted_upload.net.tls.certificates import Identity, validities, verifying_context
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.metrics import CERTIFICATE_ENDS

DAY = 86400
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def in_days(days: float) -> dt.datetime:
    return NOW + dt.timedelta(days=days)


def formatted(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


class Files:
    """
    A key and a certificate on disk, which can be renewed.

    :ivar ends: when the certificate expires.
    """

    def __init__(self, folder: Path, days: float = 90, begins: float = -30) -> None:
        self.key, self.chain = folder / "key.pem", folder / "chain.pem"
        self.renew(days, begins)

    def renew(self, days: float, begins: float = -30) -> None:
        """Write a new key and certificate."""
        self.ends = in_days(days)
        signed = authority().issue_cert(
            "localhost", "127.0.0.1", not_after=self.ends, not_before=in_days(begins)
        )
        self.key.write_bytes(signed.private_key_pem.bytes())
        self.chain.write_bytes(b"".join(pem.bytes() for pem in signed.cert_chain_pems))

    @property
    def option(self) -> str:
        return f"--listen=tls:0:key={self.key}:cert={self.chain}:interface=127.0.0.1"

    def endpoint(self) -> TLSServerEndpoint:
        paths = str(self.key), str(self.chain)
        plain = TCP4ServerEndpoint(reactor, 0)
        return TLSServerEndpoint(plain, Identity.from_files(*paths), Clock(), paths)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# Expiry


@given(
    st.datetimes(NOW.replace(1950, tzinfo=None), NOW.replace(2500, tzinfo=None)),
    st.timedeltas(dt.timedelta(seconds=1), dt.timedelta(days=100_000)),
)
@settings(deadline=None)
def test_validity(begins: dt.datetime, lasts: dt.timedelta) -> None:
    """The dates of a certificate are read correctly, in any century."""
    pem = authority().issue_cert("localhost", not_before=begins, not_after=begins + lasts)
    (certificate,) = pem.cert_chain_pems
    other = x509.load_pem_x509_certificate(certificate.bytes())
    (validity,) = validities(certificate.bytes())
    assert validity.begins == other.not_valid_before_utc.timestamp()
    assert validity.ends == other.not_valid_after_utc.timestamp()


@given(st.binary(max_size=300), st.integers(0, 300))
@settings(deadline=None)
def test_invalid_data(noise: bytes, cut: int) -> None:
    """Invalid certificate data raises the documented error, and no other."""
    der = ssl.PEM_cert_to_DER_cert(authority().cert_pem.bytes().decode())
    for data in (noise, der[:cut], der[:cut] + noise):
        pem = ssl.DER_cert_to_PEM_cert(data).encode()
        try:
            assert len(validities(pem)) == 1
        except ValueError as error:
            assert str(error) == "the dates of a certificate cannot be read"  # noqa: PT017


def test_valid(files: Files) -> None:
    """A certificate with a long validity gives no warning; its expiry is on the metrics page."""
    certificates = Certificates([files.endpoint(), object()], time.time)
    certificates.check()
    ((_, days, text),) = certificates.expiries()
    assert days == 89
    assert text.startswith(f"it is valid until {formatted(files.ends)}, for ")
    ends = files.ends.timestamp()
    assert certificates.samples() == {CERTIFICATE_ENDS.name: {(str(files.chain),): ends}}
    assert Certificates([], time.time).samples() == {CERTIFICATE_ENDS.name: {}}


def test_first_and_last_moment(files: Files) -> None:
    """It is valid from its first moment on, but not at its last."""
    (begins, ends), endpoint = files.endpoint().identity.validity, files.endpoint()
    for now in (begins, ends - 1):
        Certificates([endpoint], lambda now=now: now).check()  # type: ignore[misc]
    with pytest.raises(CannotStart, match=r"is not valid before .*: check the clock"):
        Certificates([endpoint], lambda: begins - 1).check()
    with pytest.raises(CannotStart, match="expired on"):
        Certificates([endpoint], lambda: ends).check()


def test_another_certificate_in_the_file(tmp_path: Path) -> None:
    """A CA's certificate in the file that expires earlier gives a warning, not an error."""
    files = Files(tmp_path)
    with files.chain.open("ab") as chain:
        chain.write(authority().issue_cert("x", not_after=in_days(5)).cert_chain_pems[0].bytes())
    certificates = Certificates([files.endpoint()], time.time)
    certificates.check()
    ((_, days, text),) = certificates.expiries()
    assert days == 4
    assert text.startswith(
        f"another certificate in the file is valid until {formatted(in_days(5))}"
    )


def test_warnings(files: Files) -> None:
    """From 14 days before expiry there is one warning a day; after expiry, its text changes."""
    files.renew(16)
    clock, began = Clock(), files.ends.timestamp() - 16 * DAY
    watch = CertificateWatch(
        Certificates([files.endpoint()], lambda: began + clock.seconds()), clock
    )
    lines: list[tuple[float, str]] = []

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "twisted_upload.daemon.certificate_expiry":
            lines.append((clock.seconds() / DAY, formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    watch.startService()
    while clock.seconds() < 18 * DAY:
        clock.advance(LOOK_INTERVAL)
    watch.stopService()
    globalLogPublisher.removeObserver(observe)
    assert not clock.getDelayedCalls()
    assert [int(day) for day, _ in lines] == [*range(2, 18)]
    assert lines[0][1] == (
        f"certificate {files.chain}: it is valid until {formatted(files.ends)}, for 13 days"
    )
    assert lines[-1][1].endswith(f"it expired on {formatted(files.ends)}")


# Reloading


def test_renewed(files: Files) -> None:
    """A certificate that changed on disk is read, logged with both dates, and then presented."""
    endpoint = files.endpoint()
    certificates = Certificates([endpoint], time.time)
    assert not certificates.read()
    before, old = endpoint.identity, files.ends
    files.renew(120)
    renewal = certificates.read()
    assert renewal.changes.made == [
        f"certificate {files.chain}: until {formatted(old)} -> until {formatted(files.ends)}"
    ]
    assert endpoint.identity is before
    renewal.show()
    assert endpoint.identity.validity.ends == files.ends.timestamp()
    assert not certificates.read()


def test_same_files_at_two_ports(files: Files) -> None:
    """A certificate of two ports is renewed at both, and logged once."""
    endpoints = [files.endpoint(), files.endpoint()]
    files.renew(120)
    renewal = Certificates(endpoints, time.time).read()
    assert len(renewal.changes.made) == 1
    renewal.show()
    assert len({endpoint.identity.validity.ends for endpoint in endpoints}) == 1


BAD: dict[str, tuple[Callable[[Files], object], str]] = {
    "missing": (lambda files: files.chain.unlink(), "No such file"),
    "nonsense": (lambda files: files.chain.write_text("x"), "it contains no PEM certificate"),
    "half": (lambda files: Files(_other(files)).key.rename(files.key), "is not the key of"),
    "expired": (lambda files: files.renew(-1), "certificate expired on"),
    "not yet good": (lambda files: files.renew(90, 1), "is not valid before"),
}


def _other(files: Files) -> Path:
    folder = files.key.parent / "other"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("bad", BAD)
def test_bad_renewal(bad: str, files: Files) -> None:
    """An unusable renewal is one line that names it, and the old certificate stays in use."""
    endpoint = files.endpoint()
    change, why = BAD[bad]
    change(files)
    with pytest.raises(CannotStart, match=why) as raised:
        Certificates([endpoint], time.time).read()
    assert str(files.key.parent) in str(raised.value)
    assert str(raised.value).endswith(
        "; the old certificate stays in use: fix the files, then reload again"
    )
    assert "\n" not in str(raised.value)


def test_expired_since(files: Files) -> None:
    """A certificate that has expired and was not renewed does not block other changes."""
    endpoint = files.endpoint()
    assert not Certificates([endpoint], lambda: files.ends.timestamp() + 1).read()


def test_invalid_renewal_is_a_configuration_error(files: Files) -> None:
    """An invalid renewal is a configuration error, as at the start."""
    endpoint = files.endpoint()
    files.chain.write_text("x")
    with pytest.raises(WrongConfiguration):
        Certificates([endpoint], time.time).read()


# The real daemon


def shown(daemon: Daemon) -> float:
    """Return when the certificate that the daemon presents expires."""
    with (
        socket.create_connection(daemon.address, 10) as plain,
        client_context().wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        certificate = peer.getpeercert()
    assert certificate is not None
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def reloading(daemon: Daemon) -> str:
    """Reload the daemon, and return its log line about that."""
    before = len(daemon.lines("reload"))
    daemon.signal(signal.SIGHUP)
    return wait_until(lambda: daemon.lines("reload")[before:], "a line about reloading")[0]


@pytest.fixture
def ended() -> Iterator[list[socket.socket]]:
    """Sockets to close after the test."""
    left: list[socket.socket] = []
    yield left
    for each in left:
        each.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_reload(workers: int, files: Files, tmp_path: Path, ended: list[socket.socket]) -> None:
    """
    After SIGHUP every worker and its replacement presents the renewed certificate to new
    connections; uploads in flight continue.  An invalid one changes nothing, nor other options.
    """
    old = files.ends
    (tmp_path / "upload.toml").write_text("")
    options = (files.option, f"--workers={workers}", f"--config={tmp_path}/upload.toml")
    with Daemon(tmp_path, *options) as daemon:
        lines = 1 if workers == 1 else 1 + workers
        wait_until(lambda: len(daemon.lines("listens on")) >= lines, "all workers to serve")
        assert shown(daemon) == old.timestamp()
        ended.append(socket.create_connection(daemon.address, 10))
        peer = Peer(client_context(), ended[0]).handshake(b"begins before, ")

        Files(_other(files)).chain.rename(files.chain)
        (tmp_path / "upload.toml").write_text('answer = "OK"\n')
        line = reloading(daemon)
        assert "reload failed, keeping the old configuration: " in line
        assert f"{files.key} is not the key of {files.chain}" in line
        for _ in daemon.each_worker():
            assert shown(daemon) == old.timestamp()

        files.renew(120)
        text = f"certificate {files.chain}: until {formatted(old)} -> until {formatted(files.ends)}"
        assert f"reloaded: {text}, answer 上传成功 -> OK\n" in reloading(daemon)
        for _ in daemon.each_worker():
            wait_until(lambda: shown(daemon) == files.ends.timestamp(), "it in this worker")

        peer.send(b"ends after", last=True)
        assert peer.receive() == SUCCESS
        assert [file.read_bytes() for file in daemon.files()] == [b"begins before, ends after"]
        if workers > 1:
            for pid in daemon.workers():
                os.kill(pid, signal.SIGKILL)
            lines += workers
            wait_until(lambda: len(daemon.lines("listens on")) >= lines, "other workers to serve")
            for _ in daemon.each_worker():
                assert shown(daemon) == files.ends.timestamp()
        assert "nothing has changed" in reloading(daemon)


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_page(workers: int, files: Files, tmp_path: Path) -> None:
    """The page has the expiry of the certificate, also of a renewed one, and failed handshakes."""
    with Daemon(tmp_path, files.option, f"--workers={workers}", "--metrics=0") as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        ends, label = "certificate_expiry_timestamp_seconds", str(files.chain)
        assert scraper.page().sum(ends, certificate=label) == files.ends.timestamp()
        files.renew(120)
        reloading(daemon)
        assert scraper.page().sum(ends, certificate=label) == files.ends.timestamp()
        with socket.create_connection(daemon.address, 10) as plain:
            peer = Peer(verifying_context(), plain)
            with pytest.raises(ssl.SSLCertVerificationError):
                peer.handshake()
            peer._flush()
        scraper.wait_for(1, "tls_handshake_failures_total", kind="certificate-rejected")


def test_start_with_an_expired_one(files: Files, tmp_path: Path) -> None:
    """With an expired certificate, start and --check fail with one line and exit status 1."""
    files.renew(-1)
    for more in ([], ["--check"]):
        done = run_twistd(tmp_path, "-n", "--pidfile=", "upload", files.option, *more)
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"twistd upload: {files.chain}: the certificate expired on"
            f" {formatted(files.ends)}, and the time is "
        )
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_start_with_one_that_expires_soon(workers: int, files: Files, tmp_path: Path) -> None:
    """Less than 14 days before expiry, start and --check warn, and the daemon serves."""
    files.renew(13.5)
    text = f"certificate {files.chain}: it is valid until {formatted(files.ends)}, for 13 days"
    done = run_twistd(tmp_path, "-n", "--pidfile=", "upload", files.option, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"warning: {text}\n" in done.stdout
    with Daemon(tmp_path, files.option, f"--workers={workers}") as daemon:
        assert "WARN" in daemon.wait_for_line(text)
        assert len(daemon.lines(text)) == 1
        assert shown(daemon) == files.ends.timestamp()


def test_user_cannot_read_it_again(files: Files, tmp_path: Path) -> None:
    """
    Where the user may not read the files again, the rest is reloaded, and a warning says
    what to do; when it may, the next SIGHUP renews the certificate.
    """
    if shutil.which("setpriv") is None and os.geteuid() == 0:
        pytest.skip("needs setpriv")
    old = files.ends
    with Daemon(tmp_path, files.option, before=unprivileged()) as daemon:
        files.renew(120)
        files.key.chmod(0)
        assert reloading(daemon).endswith("reloaded: nothing has changed\n")
        line = daemon.wait_for_line("not renewed")
        assert f"WARN certificate {files.chain} was not renewed: " in line
        assert (
            f"{files.key}: Permission denied; the old one, valid until {formatted(old)}, stays"
            in line
        )
        assert "let the daemon's user read the file, then reload again" in line
        assert shown(daemon) == old.timestamp()
        files.key.chmod(0o644)
        assert f"reloaded: certificate {files.chain}: until " in reloading(daemon)
        assert shown(daemon) == files.ends.timestamp()
