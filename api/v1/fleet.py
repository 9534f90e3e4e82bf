"""The fleet: workers and queues. Workers serve every tenant: who runs the farm steers them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter

from api import errors
from api.deps import AFarm, APage, Farm, Operator, Reader, slice_of
from api.v1.answers import Answer, PageAnswer, QueueAnswer, WorkerAnswer
from api.v1.paths import WorkerId
from farm.db import jobs, workers
from farm.db.session import Session
from farm.domain.tenant import Principal
from farm.domain.views import WorkerView
from farm.flow import workers as verbs

router = APIRouter(prefix="/v1", tags=["fleet"])


class QueuesAnswer(Answer):
    data: list[QueueAnswer]


def _shown(session: Session, who: Principal, view: WorkerView) -> WorkerAnswer:
    own = view.job_id is not None and jobs.get(session, who.tenant_id, view.job_id) is not None
    return WorkerAnswer.of(view, datetime.now(UTC), is_own=own)


@router.get("/workers", response_model=PageAnswer[WorkerAnswer])
def list_workers(farm: AFarm, who: Reader, page: APage) -> PageAnswer[WorkerAnswer]:
    """What renders: device, bundle, current chunk, speed, heartbeat, quarantine."""
    with farm.transaction() as session:
        found = workers.listed(session)
        start, stop, following = slice_of(found, page)
        data = [_shown(session, who, view) for view in found[start:stop]]
    return PageAnswer(data=data, next_cursor=following)


def _act(farm: Farm, verb: Callable[..., None], who: Principal, worker_id: str) -> WorkerAnswer:
    with farm.transaction() as session:
        view = workers.get(session, worker_id)
        if view is None:
            raise errors.not_found("worker", worker_id)
        verb(session, worker_id, actor=who.actor)
        view = workers.get(session, worker_id)
        assert view is not None
        answer = _shown(session, who, view)
    farm.wake()
    return answer


@router.post("/workers/{worker_id}/drain", response_model=WorkerAnswer)
def drain_worker(farm: AFarm, who: Operator, worker_id: WorkerId) -> WorkerAnswer:
    """The worker finishes what it holds and gets nothing more."""
    return _act(farm, verbs.drain, who, worker_id)


@router.post("/workers/{worker_id}/resume", response_model=WorkerAnswer)
def resume_worker(farm: AFarm, who: Operator, worker_id: WorkerId) -> WorkerAnswer:
    """Ends draining and quarantine."""
    return _act(farm, verbs.resume, who, worker_id)


@router.get("/queues", response_model=QueuesAnswer)
def list_queues(farm: AFarm, who: Reader) -> QueuesAnswer:
    with farm.transaction() as session:
        return QueuesAnswer(data=[QueueAnswer.of(view) for view in workers.queues(session)])
