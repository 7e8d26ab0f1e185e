"""Access tokens cannot be forged, altered or outlived."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.access.tokens import AccessClaims, TokenSigner, load_or_make_key, new_token, token_hash
from shared.errors import ConfigurationError

SIGNER = TokenSigner(b"k" * 32)
CLAIMS = AccessClaims(uuid4(), uuid4(), 1000)
TOKEN = SIGNER.sign(CLAIMS)


def test_a_token_says_what_was_signed_until_it_expires() -> None:
    assert SIGNER.read(TOKEN, 999.9) == CLAIMS
    assert SIGNER.read(TOKEN, 1000) is None


def test_another_key_does_not_read_it() -> None:
    assert TokenSigner().read(TOKEN, 0) is None
    assert TokenSigner(b"x" * 32).read(TOKEN, 0) is None


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_an_altered_token_is_refused(position: int, character: str) -> None:
    altered = TOKEN[:position] + character + TOKEN[position + 1 :]
    if altered != TOKEN:
        found = SIGNER.read(altered, 0)
        assert found is None or (found == CLAIMS and position in (len(TOKEN) - 1, TOKEN.index(".") - 1))


@given(st.text())
def test_garbage_is_refused(text: str) -> None:
    assert SIGNER.read(text, 0) is None
    assert len(token_hash(text)) == 32


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 32"):
        TokenSigner(b"short")


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert load_or_make_key(path) == load_or_make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError):
        load_or_make_key(tmp_path / "missing" / "key")


def test_random_tokens_differ_and_fit() -> None:
    assert new_token() != new_token()
    assert len(new_token()) == 43
