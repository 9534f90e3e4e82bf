"""python -m workers [--queues render] | --control [--beat] | --beat: one worker process of the farm."""

from __future__ import annotations

import argparse

from farm import log, trace
from farm.settings import FarmSettings, InputSettings, QualitySettings, WebhookSettings, WorkerSettings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description="One worker process of the farm.")
    parser.add_argument("--queues", help="comma-separated queues to render from (DUBFARM_WORKER_QUEUES)")
    parser.add_argument("--control", action="store_true", help="consume ticks (repairs and releases) instead")
    parser.add_argument("--beat", action="store_true", help="send the ticks; alone or together with --control")
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON")
    arguments = parser.parse_args()
    log.setup("control" if arguments.control or arguments.beat else "worker", json=arguments.log_json)
    trace.setup("control" if arguments.control or arguments.beat else "worker")
    farm = FarmSettings()
    from workers import app

    if arguments.control:
        app.run_control_worker(farm, WebhookSettings(), with_beat=arguments.beat)
    elif arguments.beat:
        app.run_beat(farm)
    else:
        settings = WorkerSettings()
        if arguments.queues:
            settings = settings.model_copy(update={"queues": tuple(arguments.queues.split(","))})
        app.run_render_worker(farm, InputSettings(), settings, QualitySettings())


if __name__ == "__main__":
    main()
