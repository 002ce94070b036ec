"""No form in which a secret is written reaches a log that somebody is shown."""

import json
import logging

import pytest

from services.chassis.masking import mask
from services.chassis.telemetry import JsonFormatter

SECRET = "s3cr3t-Value+of/40=characters"
FORMS = (
    '{"api_key": "%s"}',
    "{'password': '%s'}",
    r"{\"secret_access_key\": \"%s\", \"region\": \"eu\"}",
    'password="%s"',
    "secret_key = %s",
    "MODELRY_TOKEN_SECRET=%s",
    '"aws_session_token":"%s"',
    "x-api-key: %s",
    "{'X-Api-Key': '%s'}",
    "Authorization: Bearer %s",
    "authorization: Basic %s",
    '"authorization": "Bearer %s"',
    "('authorization', 'Bearer %s')",
    "https://user:%s@host.example/path",
    "nats://:%s@127.0.0.1:4222",
    "https://host.example/x?X-Amz-Signature=%s&part=1",
    "GET /v1/models?api_key=%s HTTP/1.1",
    "Cookie: session=%s",
)
BARE = ("hf_AbCdEfGhIjKlMnOpQrSt", "mk_abcdefgh12345678", "whsec_abcdefgh12345678", "sk-abcdefghijklmnopqrstuv")


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form_that_it_is_written_in(form: str) -> None:
    assert SECRET not in mask(form % SECRET)
    assert "***" in mask(form % SECRET)


@pytest.mark.parametrize("secret", BARE)
@pytest.mark.parametrize("around", ["%s", '"%s"', "/%s/", r"\"%s\"", "token %s."])
def test_what_looks_like_a_key_is_masked_without_a_name(secret: str, around: str) -> None:
    assert secret[5:] not in mask(around % secret)


@pytest.mark.parametrize(
    "text",
    [
        "input_tokens=12 max_tokens: 512, token_count=3",
        "The key key-1 of proj-1 was revoked.",
        "tokenizer: Qwen2TokenizerFast, pad_token='<pad>', eos_token=\"</s>\"",
        "https://huggingface.co/org/model/resolve/main/config.json?download=true",
        "s3://bucket/prefix:part@2",
        "unknown field api_key",
        "hf_hub is not there; use hf_transfer",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("form", FORMS)
def test_a_line_of_the_log_is_masked_and_stays_json(form: str) -> None:
    try:
        raise ValueError(form % SECRET)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, form, (SECRET,), (ValueError, error, error.__traceback__))
    line = JsonFormatter("toy").format(record)
    assert SECRET not in line
    assert json.loads(line)["service"] == "toy"
