"""What will be kept of a text shows no credential, and loses nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm import BatchProcessor
from cottonpalm.engine.classifier import MESSAGE_CHARS, Classifier
from cottonpalm.redact import is_secret, looks_secret, public_url, redact
from cottonpalm.testing import ScriptedChain

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.core

SECRETS = [
    ("Incorrect API key provided: sk-proj-AbC123dEf456GhI789.", "AbC123dEf456GhI789"),
    ("Incorrect API key provided: sk-abcd**********wxyz.", "wxyz"),
    ("key sk-ant-api03-AbCdEf_123-456 is invalid", "AbCdEf_123-456"),
    ("{'Authorization': 'Bearer abc.def-ghi_jkl'}", "abc.def-ghi_jkl"),
    ("authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    ("x-api-key: 0123456789abcdef", "0123456789abcdef"),
    ('{"api_key": "hunter2hunter2"}', "hunter2hunter2"),
    ("https://me:hunter2@proxy.example:8080/v1", "hunter2"),
    ("GET https://host/v1?key=AIzaSyA1234567890abcdefg&alt=json", "AIzaSyA1234567890abcdefg"),
    ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired", "c2lnbmF0dXJl"),
    ("password = correct-horse", "correct-horse"),
    ("api_key=sk-0123456789!and-more", "and-more"),
    ("Incorrect API key provided: hunter2hunter2.", "hunter2"),
    ('{\\"api_key\\": \\"hunter2hunter2\\"}', "hunter2"),
    ("authorization: Token hunter2hunter2", "hunter2"),
    ("GET https://host/v1?key=hunter2hunter2&alt=json", "hunter2"),
    ("GET https://host/v1?alt=json&token=hunter2hunter2", "hunter2"),
    ("GET https://host/v1?authorization=Bearer%20hunter2hunter2", "hunter2"),
    ("cannot reach redis://:hunter2@cache.example:6379", "hunter2"),
    ("cannot reach https://hunter2hunter2hunter2@proxy.example/v1", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_credentials_of_every_known_shape_are_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached for gpt-4o-mini on tokens per min (TPM): Limit 200000, Used 199999.",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "Connection refused: https://api.example.com:443/v1/chat/completions?alt=json",
        "the task asks for the key points of a basic text",
        "row 7: 'sk' and 'key' are words",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=16),
    st.text(),
)
def test_a_key_is_found_wherever_it_stands(key: str, around: str) -> None:
    assert f"sk-{key}" not in redact(f"{around} sk-{key} {around}")


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_an_error_record_is_redacted_and_of_bounded_length() -> None:
    record = Classifier().record(ValueError("sk-0123456789abcdef " + "x" * 10_000))
    assert "0123456789abcdef" not in record.message
    assert len(record.message) < MESSAGE_CHARS + 50
    assert "more characters" in record.message


def test_a_record_says_what_to_do_about_half_a_character() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "cut in \ud83d".encode()
    said = Classifier().record(caught.value).message
    assert "surrogates not allowed" in said
    assert "holds half a character" in said
    assert "cut in \ud83d".encode(errors="replace").decode() == "cut in ?", "what the message says to do"
    with pytest.raises(UnicodeEncodeError) as other:
        "é".encode("ascii")
    assert "half a character" not in Classifier().record(other.value).message


def _key(*parts: str) -> str:
    """Put together here, so that no scanner takes this file for a leak."""
    return "".join(parts)


KEYS = {
    "OpenAI": _key("sk-", "proj-", "AbC123dEf456GhI789"),
    "Anthropic": _key("sk-", "ant-api03-", "AbCdEf_123-456"),
    "OpenRouter": _key("sk-", "or-v1-", "0123456789abcdef"),
    "Groq": _key("gsk", "_", "AbC123dEf456GhI789"),
    "xAI": _key("xai", "-", "AbC123dEf456GhI789"),
    "Google": _key("AI", "za", "SyA1234567890abcdefg"),
    "Google OAuth": _key("ya", "29.", "a0AfH6SMBx-1234567890"),
    "GitHub": _key("gh", "p_", "A1b2C3d4E5f6G7h8I9j0K1l2"),
    "GitHub, fine": _key("github", "_pat_", "11ABCDEFG0_abcdefghijklm"),
    "GitLab": _key("gl", "pat-", "A1b2C3d4E5f6G7h8I9j0"),
    "AWS": _key("AK", "IA", "IOSFODNN7EXAMPLE"),
    "AWS, for a while": _key("AS", "IA", "IOSFODNN7EXAMPLE"),
    "Slack": _key("xo", "xb-", "123456789012-abcdefABCDEF"),
    "Slack, an app's": _key("xa", "pp-", "1-A01234-567-abcdef"),
    "Stripe": _key("sk", "_live_", "4eC39HqLyjWDarjtT1zdp7dc"),
    "Hugging Face": _key("h", "f_", "AbCdEfGhIjKlMnOpQrStUv"),
    "Replicate": _key("r", "8_", "AbCdEfGhIjKlMnOpQrStUv"),
    "npm": _key("np", "m_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4"),
    "PyPI": _key("py", "pi-", "AgEIcHlwaS5vcmcCJDU3YjQ2ZjQ0LWE3"),
    "LangSmith": _key("ls", "v2_pt_", "0123456789abcdef_0123456789"),
    "Perplexity": _key("pp", "lx-", "0123456789abcdef"),
    "NVIDIA": _key("nv", "api-", "AbC123dEf456GhI789"),
    "SendGrid": _key("S", "G.", "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr"),
    "Fireworks": _key("f", "w_", "AbCdEfGhIjKlMnOpQrStUv"),
    "Bedrock": _key("AB", "SK", "QmVkcm9ja0FQSUtleS1hYmNk"),
    "Google, new": _key("A", "Q.", "Ab8RN6JAbCdEfGhIjKlMnOp"),
    "Docker": _key("dckr", "_pat_", "AbCdEfGhIjKlMnOpQrStUv"),
    "a web token": _key("ey", "JhbGciOiJIUzI1NiJ9.", "eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
}


@pytest.mark.parametrize("whose", KEYS)
def test_one_list_of_keys_serves_texts_and_values(whose: str) -> None:
    key = KEYS[whose]
    assert looks_secret(key)
    assert is_secret("anything", key)
    for text in (f"refused: {key}", f"'{key}'", f"({key}).", f"https://host/x?y={key}&z=1"):
        kept = redact(text)
        assert key not in kept
        assert key[6:] not in kept
        assert redact(kept) == kept


NAMED = [
    "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCY",
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6;EndpointSuffix=core",
    "refresh_token: 1//0gAbCdEf",
    "Cookie: session=abcdef0123",
    "https://host/blob?sv=2022&sig=AbCdEf%2F123",
    "ocp-apim-subscription-key: 0123456789abcdef",
    "passwd='hunter2hunter2'",
]


@pytest.mark.parametrize("text", NAMED)
def test_a_value_under_a_secrets_name_is_taken_out(text: str) -> None:
    assert text.rsplit(" ", 1)[-1] not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: {}. You sent it in '{}'",
        "'authorization': 'api-key: {}' was refused; {} is unknown",
        "password: {}\nonce more: {}",
    ],
)
def test_what_is_named_as_a_secret_is_one_wherever_the_text_repeats_it(text: str) -> None:
    secret = "my-odd-company-word-12345"
    assert secret not in redact(text.format(secret, secret))
    assert redact("the key: word, and a word") == "the key: word, and a word"
    both = f"password: {secret} password: {secret}-and-more; {secret}-and-more"
    assert "more" not in redact(both), "one begins with the other"


def test_a_password_with_an_at_sign_is_taken_out_whole() -> None:
    kept = redact(
        "cannot reach postgres://me:p@ss@w0rd@db.example:5432/x and https://host:443/a?b=c@d.example"
    )
    assert kept == (
        "cannot reach postgres://[redacted]@db.example:5432/x and https://host:443/a?b=c@d.example"
    )
    assert public_url("https://me:p@ss@w0rd@host.example/v1") == "https://host.example/v1"


def test_a_private_key_is_taken_out_to_its_end() -> None:
    kept = redact(
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\nAAKCAQEA\n-----END RSA PRIVATE KEY-----\nand more"
    )
    assert "MIIE" not in kept
    assert "AAKC" not in kept
    assert kept.endswith("and more")


def _raised(key: str) -> Exception:
    """An error whose cause, and the cause of that, say the key."""
    try:
        try:
            raise KeyError(f"no account for {key}")
        except KeyError as inner:
            raise ConnectionError(f"refused with {key}") from inner
    except ConnectionError as outer:
        error = ValueError("the call failed")
        error.__cause__ = outer
        return error


def test_no_key_of_any_kind_reaches_a_store_a_log_or_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = ScriptedChain(then=lambda whose: _raised(KEYS[whose]))
    processor = BatchProcessor(chain, store=tmp_path / "runs.db", run="keys", retry=0)
    processor.batch(list(KEYS), return_exceptions=True)
    assert processor.last_run is not None
    errors = [str(outcome.error) for outcome in processor.last_run.outcomes()]
    assert len(errors) == len(KEYS)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir()) + caplog.text.encode()
    for whose, key in KEYS.items():
        assert key.encode() not in kept, whose
        assert key not in "".join(errors), whose
