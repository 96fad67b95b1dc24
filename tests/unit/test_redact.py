"""What will be kept of a text shows no credential, and loses nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.engine.classifier import MESSAGE_CHARS, Classifier
from cottonpalm.redact import redact

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
