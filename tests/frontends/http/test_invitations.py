"""Invitations: signed text that says itself what it allows."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.quota import quota_of
from twisted_upload.disk.files import Files
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.http import invitations
from twisted_upload.frontends.http.invitations import (
    Invitation,
    InvitationKeys,
    new_nonce,
    parse_keys,
    read_keys,
    with_new_key,
)

KEY, OTHER = b"k" * 32, b"o" * 32
NONCE = "00112233445566778899aabb"
ALICE = Invitation("Alice 李", 1_795_328_130, 2 * 1024**3, 20, NONCE)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=50),
    st.integers(0, 10**12 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 10_000),
)
def test_round_trip(label: str, expires: int, max_size: int, uploads: int) -> None:
    """What is signed is what is read."""
    invitation = Invitation(label, expires, max_size, uploads, new_nonce(Files().random))
    text = InvitationKeys([KEY]).sign(invitation)
    assert InvitationKeys([KEY]).verify(text) == invitation
    assert InvitationKeys([OTHER]).verify(text) is None


def test_short() -> None:
    """It is short enough for a QR code, and can be part of an address and a header field."""
    text = InvitationKeys([KEY]).sign(ALICE)
    assert text.startswith("inv_")
    assert len(text) < 120
    assert text.replace("_", "").replace("-", "").isalnum()


def test_rotation() -> None:
    """The first key signs; what either has signed is valid."""
    former = InvitationKeys([OTHER]).sign(ALICE)
    rotated = InvitationKeys([KEY, OTHER])
    assert rotated.verify(former) == ALICE
    assert InvitationKeys([KEY]).verify(rotated.sign(ALICE)) == ALICE
    assert InvitationKeys([KEY]).verify(former) is None


@settings(deadline=None)
@given(st.data())
def test_every_bit_counts(data: st.DataObject) -> None:
    """With any bit changed, it is not valid."""
    text = InvitationKeys([KEY]).sign(ALICE).removeprefix("inv_")
    signed = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    bit = data.draw(st.integers(0, len(signed) * 8 - 1))
    signed[bit // 8] ^= 1 << bit % 8
    changed = "inv_" + urlsafe_b64encode(bytes(signed)).rstrip(b"=").decode()
    assert InvitationKeys([KEY]).verify(changed) is None


@settings(deadline=None)
@given(st.text() | st.text(alphabet="AZaz09_-", max_size=200).map("inv_".__add__))
def test_any_text(text: str) -> None:
    """Any other text is not valid, and raises nothing."""
    assert InvitationKeys([KEY]).verify(text) is None


def test_one_text() -> None:
    """There is one text for an invitation: no padding, no other last character."""
    invitation = Invitation("", 1, 0, 0, NONCE)
    keys = InvitationKeys([KEY])
    for label in "", "a", "ab":
        text = keys.sign(Invitation(label, 1, 0, 0, NONCE))
        assert keys.verify(text) is not None
        last = [text[:-1] + it for it in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop0123456789-_"]
        others = {*last, text + "=", text + "==", text + "\n", text + " "} - {text}
        assert {it for it in others if keys.verify(it) is not None} == set()
    assert keys.verify(keys.sign(invitation).removeprefix("inv_")) is None


@pytest.mark.parametrize(
    "values",
    [
        ("a\nb", 1, 0, 0),
        ("x" * 201, 1, 0, 0),
        ("\u202e", 1, 0, 0),
        ("", -1, 0, 0),
        ("", 1, -1, 0),
        ("", 1, 2**63, 0),
        ("", 1, 0, 10_001),
        ("", 1, 0, -1),
    ],
)
def test_out_of_range(values: tuple[str, int, int, int]) -> None:
    """Values out of range are not accepted."""
    with pytest.raises(ValueError, match=r"must be|out of range"):
        Invitation(*values, NONCE)


def test_owner() -> None:
    """The owner of the uploads has the quota, if there is one."""
    quota = quota_of(ALICE.owner)
    assert quota is not None
    assert (quota.nonce, quota.uploads, quota.expires) == (NONCE, 20, ALICE.expires)
    unlimited = Invitation("Alice", 1, 0, 0, NONCE)
    assert unlimited.owner == f"invitation:{NONCE}"
    assert quota_of(unlimited.owner) is None


@pytest.mark.parametrize(
    "owner", ["", "token:x", f"invitation:{NONCE}:0:1", f"invitation:{NONCE}:1:1\n", "invitation:"]
)
def test_no_quota(owner: str) -> None:
    """No other owner has one."""
    assert quota_of(owner) is None


def test_key_file(tmp_path: Path) -> None:
    """A new key signs; the former one stays valid; the one before that does not."""
    path = tmp_path / "keys"
    content = b""
    invitations = []
    for _ in range(3):
        content = with_new_key(content, Files().random)
        path.write_bytes(content)
        path.chmod(0o600)
        invitations.append(read_keys(str(path), Files()).sign(ALICE))
    keys = read_keys(str(path), Files())
    assert [keys.verify(it) is not None for it in invitations] == [False, True, True]


def test_key_file_errors(tmp_path: Path) -> None:
    """Errors name the line, and show no key."""
    key = "a" * 64
    for content, why in (
        (f"{key}\n{key}x\n", "line 2 is not a key of 64 hexadecimal digits"),
        (f"{key}\n{key}\n{key}\n", "it has more than 2 keys"),
        ("# nothing\n", "it has no key"),
    ):
        path = tmp_path / "keys"
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(WrongConfiguration, match=why) as raised:
            read_keys(str(path), Files())
        assert key not in str(raised.value)
    path.chmod(0o644)
    with pytest.raises(WrongConfiguration, match="other users may read it"):
        read_keys(str(path), Files())
    with pytest.raises(WrongConfiguration, match="cannot read"):
        read_keys(str(tmp_path / "none"), Files())
    assert parse_keys(f"\n# first\n{key}\n".encode()) == (b"\xaa" * 32,)


def test_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invitation of another version is not valid, although the key is the same."""
    with monkeypatch.context() as later:
        later.setattr(invitations, "_VERSION", 2)
        text = InvitationKeys([KEY]).sign(ALICE)
    assert InvitationKeys([KEY]).verify(text) is None
