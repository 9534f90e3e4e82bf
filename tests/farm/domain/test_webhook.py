"""Signatures as another implementation verifies them, and the schedule of tries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from farm.domain.webhook import PAUSES_S, Delivered, GiveUp, Message, TryAgain, headers, judge, secret_text

NEW, OLD = secret_text(b"n" * 32), secret_text(b"o" * 32)


def sent(*secrets: str) -> tuple[str, dict[str, str]]:
    body = '{"type":"ping","data":{"word":"Häuser"}}'
    now = int(datetime.now(UTC).timestamp())
    message = Message("whd_1", "whe_1", "t", 1, "https://x", body, now, secrets)
    return body, dict(headers(message))


def test_the_reference_library_verifies_it() -> None:
    body, carried = sent(NEW)
    assert Webhook(NEW).verify(body.encode(), carried) == {"type": "ping", "data": {"word": "Häuser"}}
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body.replace("ping", "pong").encode(), carried)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body.encode(), carried)


def test_during_a_rotation_both_secrets_verify() -> None:
    body, carried = sent(NEW, OLD)
    assert len(carried["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        Webhook(secret).verify(body.encode(), carried)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_2xx_delivers(status: int) -> None:
    assert judge(status, 11, 0.5) == Delivered()


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int | None) -> None:
    assert judge(status, 1, 0.5) == TryAgain(5.0)


def test_gone_disables_at_once() -> None:
    decision = judge(410, 1, 0.5)
    assert isinstance(decision, GiveUp)
    assert decision.disables


def test_eleven_tries_fill_three_days() -> None:
    three_days = 3 * 86_400
    for dice in (0.0, 0.5, 0.999):
        waited = 0.0
        for failures in range(1, len(PAUSES_S) + 1):
            decision = judge(500, failures, dice)
            assert isinstance(decision, TryAgain)
            assert abs(decision.after_s - PAUSES_S[failures - 1]) <= 0.2 * PAUSES_S[failures - 1] + 1e-6
            waited += decision.after_s
        assert 0.79 * three_days < waited < 1.21 * three_days
    last = judge(500, len(PAUSES_S) + 1, 0.5)
    assert isinstance(last, GiveUp)
    assert not last.disables


def test_a_receiver_may_ask_for_a_pause_of_a_day_at_most() -> None:
    assert judge(503, 1, 0.5, 600.0) == TryAgain(600.0)
    assert judge(503, 4, 0.5, 600.0) == TryAgain(1800.0)
    assert judge(503, 1, 0.5, 1e9) == TryAgain(86_400.0)
