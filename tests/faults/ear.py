"""Promise 6 under faults: an endpoint that hears a farm, and must have heard of every end once all is over."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import Webhook

from tests.faults.field import Field
from tests.receiver import Receiver, Say

PATH: Final = "/hook"
WAIT_S: Final = 180.0


class Ear:
    def __init__(self, hurt: Field, receiver: Receiver) -> None:
        self._hurt, self._receiver = hurt, receiver
        self._webhook = Webhook(hurt.client.create_webhook(receiver.url(PATH)).secret)
        self.answer(Say())

    def answer(self, say: Say) -> None:
        """From now on."""
        self._receiver.script[PATH] = [say]

    def heard_all(self, batches: Sequence[str]) -> int:
        """See that every job's success and every batch's completion was taken: signed, and under one id and in the same
        words however often it came. How many messages that took."""
        deadline = time.monotonic() + WAIT_S
        while left := self._hurt.sql(
            "select status, count(*) from webhook_deliveries where status <> 'delivered' group by 1"
        ):
            assert time.monotonic() < deadline, f"not delivered: {left}"
            # The next try may be hours away.
            self._hurt.sql(
                "update webhook_deliveries set due_at = now() where status = 'pending' and token is null returning 1"
            )
            time.sleep(0.5)
        took: dict[tuple[str, str], dict[str, bytes]] = {}
        messages = [got for got in self._receiver.got if got.path == PATH and got.status == 200]
        for got in messages:
            sent_at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
            number = got.headers["webhook-id"]
            assert got.headers["webhook-signature"] == self._webhook.sign(number, sent_at, got.body.decode())
            told = json.loads(got.body)
            about = told["data"].get("job_id") or told["data"]["batch_id"]
            assert took.setdefault((told["type"], about), {}).setdefault(number, got.body) == got.body
        jobs = [job.id for batch in batches for job in self._hurt.client.jobs(batch)]
        wanted = {("job.succeeded", job) for job in jobs} | {("batch.completed", batch) for batch in batches}
        assert took.keys() == wanted, f"never told: {wanted - took.keys()}; told without cause: {took.keys() - wanted}"
        assert {about: len(ids) for about, ids in took.items() if len(ids) > 1} == {}, "told twice under two ids"
        return len(messages)
