"""`python -m trainer.run RUN`: the training process of one run, from the store to the store.

What a run needs to go on is in the object store, so it can be killed on one machine and go on on another.
"""

import fcntl
import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from redis import Redis
from torch.utils.tensorboard import SummaryWriter

from retouche import logs
from retouche.about import about
from retouche.contract.runs import DiffusionRpo, Full, RunResult, RunSpec, TrainingMetrics
from retouche.errors import RetoucheError, StoreFull
from retouche.identity import identify
from retouche.local.process import die_with_parent
from retouche.profile import located
from retouche.store import ObjectStore, run
from trainer import artifacts, checkpoints
from trainer.batches import Pairs, WaitCancelled
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import EncodedPairs
from trainer.encoders import Encoders, RelationModel
from trainer.loop import Cancelled, train
from trainer.pairs import TrainingPair
from trainer.patience import patient_group
from trainer.policy import Policy, check_base, load
from trainer.refusal import refused
from trainer.remote import Remote
from trainer.settings import Settings
from trainer.sources.dataset import finished_pairs
from trainer.sources.pick_a_pic import folder_pairs
from trainer.sources.stream import StreamedPairs

_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_log = logging.getLogger("retouche.trainer")


def main(run_id: str) -> int:
    """Train the run to its end, cancellation or failure; the process's exit code.

    Of several processes (`torchrun`, `accelerate launch`) the first one talks to the store for all of them.
    """
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())  # the first process decides for all of them
    die_with_parent()
    settings = Settings()
    processes: Any = PartialState(cpu=not torch.accelerator.is_available())
    group = patient_group()
    remote = Remote(ObjectStore(settings.store), Redis.from_url(settings.redis_url), run_id)
    folder = settings.runs_folder / run_id
    if processes.is_main_process:
        with _alone(folder), remote.watching(told) as cancelled:
            return _lead(remote, folder, cancelled, group)
    return _assist(remote, folder, group)


def _lead(remote: Remote, folder: Path, cancelled: Cancelled, group: Any) -> int:
    began, processes = time.monotonic(), 1 if group is None else group.size()
    if remote.ended():
        _agreed(None, group)
        if remote.finished():  # and killed before it had removed its folder
            _remove(folder)
        return 0
    try:
        spec = remote.record().spec
        pairs = _prepared(remote, spec, folder, cancelled, processes)
        _agreed(pairs.pairs if isinstance(pairs, EncodedPairs) else (), group)  # nobody else follows a stream
        _train(remote, spec, folder, pairs, cancelled, began)
    except WaitCancelled:  # while pairs were encoded; what has been stays
        _agreed(None, group)
        remote.cancelled()
    except RetoucheError as error:
        if error.retryable or isinstance(error, StoreFull):  # it may pass: the run is tried again
            raise
        _log.error("%s failed: %s", remote.run_id, error.detail)
        remote.failed(error.detail)
        # The others may be waiting for this process; the launcher ends them if it ends badly.
        return 0 if processes == 1 else 1
    return 0


def _assist(remote: Remote, folder: Path, group: Any) -> int:
    """A process that is not the first: trains what that one has prepared, and reports nothing."""
    pairs = _agreed(None, group)
    if pairs is None:
        return 0
    spec = remote.record().spec
    train(spec, _policy(spec), EncodedPairs(remote.store, _encoding(spec), pairs, spec.seed), folder)
    return 0


def _agreed(pairs: Sequence[TrainingPair] | None, group: Any) -> Sequence[TrainingPair] | None:
    """What the first process says, told to all: the pairs to train on, None where nothing is to be done."""
    said = [pairs]
    if group is not None:
        torch.distributed.broadcast_object_list(said, src=0, group=group)
    return said[0]


def _prepared(remote: Remote, spec: RunSpec, folder: Path, cancelled: Cancelled, processes: int) -> Pairs:
    if spec.data.follow and processes > 1:
        raise refused(
            "data.follow",
            f"{processes} processes cannot share the stream of a running job; wait until it has ended, or "
            "start the trainer with RETOUCHE_TRAIN_PROCESSES=1",
        )
    check_base(_base(spec), spec.revision)
    if isinstance(spec.tuning, Full):
        artifacts.check_parts(_base(spec), spec.revision)
    remote.fetch_checkpoints(folder)
    return _pairs(remote, spec, cancelled)


def _policy(spec: RunSpec) -> Policy:
    dtype = _DTYPES[spec.optimisation.mixed_precision]
    return load(_base(spec), spec.tuning, spec.seed, spec.revision, dtype)


def _train(
    remote: Remote, spec: RunSpec, folder: Path, pairs: Pairs, cancelled: Cancelled, began: float
) -> None:
    policy, resumed = _policy(spec), checkpoints.last_step(folder)
    remote.resume_log(resumed)
    with SummaryWriter(folder / "tensorboard", purge_step=resumed + 1) as board:

        def report(metrics: TrainingMetrics) -> None:
            for name, value in metrics.model_dump(exclude={"step"}).items():
                board.add_scalar(name, value, metrics.step)
            remote.log(metrics)

        train(spec, policy, pairs, folder, report, cancelled, remote.keep_checkpoint)
    metrics, steps = remote.last_logged, spec.optimisation.steps
    if metrics is None or metrics.step < steps:
        _log.info("%s was stopped at step %s", remote.run_id, metrics.step if metrics else 0)
        remote.cancelled()
        return
    result = RunResult(
        base=identify(_base(spec), spec.revision),
        steps=steps,
        pairs=len(pairs),
        data_digest=pairs.digest,
        metrics=metrics,
        seconds=time.monotonic() - began,
    )
    made = artifacts.write(folder, spec, _base(spec), policy, result)
    remote.finish({"": made, "tensorboard": folder / "tensorboard"}, result)
    _remove(folder)


def _remove(folder: Path) -> None:
    """What a finished run leaves here is in the store. NFS keeps a lock that is held, and the folder with it:
    no reason to start the run again.
    """
    shutil.rmtree(folder, ignore_errors=True)


def _pairs(remote: Remote, spec: RunSpec, cancelled: Cancelled) -> Pairs:
    """The pairs that the specification names, encoded; WaitCancelled if told to stop before they are."""
    data, encoding = spec.data, _encoding(spec)
    encoding.encoders.check()
    if encoding.relations is not None:
        encoding.relations.check()
    store, flips = remote.store, data.horizontal_flips
    if data.follow and data.job:
        return StreamedPairs(
            store,
            remote.redis,
            encoding,
            data.job,
            remote.run_id,
            seed=spec.seed,
            flips=flips,
            cancelled=cancelled,
        )
    if data.pick_a_pic:
        imported = run(folder_pairs(store, data.pick_a_pic))
        _log.info("%s: %d pairs, dropped %s", data.pick_a_pic, len(imported.pairs), imported.dropped)
        for row in imported.unreadable:
            _log.warning("%s", row)
        found = imported.pairs
    else:
        found = [
            pair
            for job in (data.job or "", *data.more_jobs)
            for pair in run(finished_pairs(store, job, data.reviewed, data.reviewed_until))
        ]

    def told(done: int, of: int) -> None:
        _log.info("encoded %d of %d", done, of)
        if cancelled():
            raise WaitCancelled

    encode_pairs(store, encoding, found, flips, told)
    encoding.unload()
    return EncodedPairs(store, encoding, found, spec.seed)


def _encoding(spec: RunSpec) -> Encoding:
    """The models that encode, not loaded; the gateway has filled in a relation model where none was named."""
    objective, encoders = spec.objective, Encoders(_base(spec), spec.revision)
    if not isinstance(objective, DiffusionRpo):
        return Encoding(encoders)
    if objective.relation_model is None:
        raise refused("objective.relation_model", "diffusion_rpo needs a CLIP model; name a folder or Hub id")
    relations = RelationModel(
        located(objective.relation_model),
        objective.relation_revision,
        located(objective.relation_base) if objective.relation_base else None,
        objective.relation_base_revision,
    )
    return Encoding(encoders, relations)


def _base(spec: RunSpec) -> str:
    """Where the base lies, which the gateway has filled in where the user named none."""
    if spec.base is None:
        raise refused("base", "the run was accepted without one; submit it again")
    return located(spec.base)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """RQ can start a run twice; the second process waits until the first is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    logs.configure()
    with about(run=sys.argv[1]):
        sys.exit(main(sys.argv[1]))
