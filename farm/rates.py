"""How often a key may ask: one token bucket a key, in Valkey, shared by all API processes.

Valkey holds nothing that matters: a lost bucket is a full one, and while Valkey is away everybody may ask (fail open).
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from farm import log
from farm.domain.quota import Rate

PATIENCE_S: Final = 0.25
"""How long a request waits for Valkey."""
PAUSE_S: Final = 5.0
"""After Valkey did not answer, nobody asks it for so long: its being away delays one request in a while, not all."""

# The generic cell rate algorithm: the key holds when the bucket will be full again, in seconds of Valkey's own clock.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local gap, burst = 1 / tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local allowed = full_at + gap - now <= burst * gap + 0.000001
if allowed then
    full_at = full_at + gap
    redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000) + 1000)
end
return {allowed and 1 or 0, tostring(full_at - now)}
"""

_log = log.get(__name__)


@dataclass(frozen=True)
class Spent:
    """One request counted. remaining: requests that may follow at once. reset_s: until the bucket is full again.
    retry_s: until the next request is let in, 0 where one is now."""

    allowed: bool
    rate: Rate
    remaining: int
    reset_s: float
    retry_s: float


class Limiter:
    """Safe to share between threads."""

    def __init__(self, broker_url: str, rate: Rate) -> None:
        self._client = redis.Redis.from_url(
            broker_url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, health_check_interval=30
        )
        self._take = self._client.register_script(_TAKE)
        self._rate = rate
        self._away_until = 0.0
        self._lock = threading.Lock()

    def take(self, name: str, rate: Rate | None = None, lower: Rate | None = None) -> Spent | None:
        """Count one request of `name`. rate: instead of the farm's; lower: held to as well, where it is lower.

        None: Valkey is away, let everybody in.
        """
        rate = rate or self._rate
        if lower is not None:
            rate = Rate(min(rate.per_s, lower.per_s), min(rate.burst, lower.burst))
        if time.monotonic() < self._away_until:
            return None
        try:
            allowed, level = cast(Any, self._take(keys=[f"rate:{name}"], args=[rate.per_s, rate.burst]))
        except (redis.RedisError, OSError) as error:
            with self._lock:
                self._away_until = time.monotonic() + PAUSE_S
            _log.warning("no rate limits for now: Valkey does not answer", error=str(error))
            return None
        reset_s = max(0.0, float(level))
        gap_s = 1 / rate.per_s
        remaining = max(0, math.floor(rate.burst - reset_s / gap_s + 1e-6))
        retry_s = 0.0 if allowed else max(0.0, reset_s + gap_s - rate.burst * gap_s)
        return Spent(bool(allowed), rate, remaining, reset_s, retry_s)

    def close(self) -> None:
        self._client.close()
