"""A run of the training loop: what it learns, how it goes on after a kill, when it stops."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from retouche.contract.runs import (
    DiffusionDpo,
    DiffusionRpo,
    Full,
    Lora,
    Objective,
    Optimisation,
    RichDpo,
    RunSpec,
    Sft,
    TrainingMetrics,
    Tuning,
)
from retouche.errors import BadRequest, Conflict, TrainingStopped
from tests.trainer.tiny import SDXL, NoisePairs, policy, save_base, spec
from trainer.checkpoints import finished
from trainer.loop import train
from trainer.meter import stop_if_hopeless
from trainer.policy import check_base

OBJECTIVES: list[Objective] = [
    Sft(),
    DiffusionDpo(beta=100.0),
    DiffusionDpo(beta=100.0, loss="hinge", anchor_weight=1.0),
    DiffusionDpo(beta=100.0, loss="ipo"),
    DiffusionRpo(beta=100.0, temperature=0.5, anchor_weight=1.0),
    RichDpo(beta=100.0, strength=0.8),
]


def run(
    folder: Path, run_spec: RunSpec, sdxl: bool = False, prediction: str = "epsilon"
) -> list[TrainingMetrics]:
    """Train in `folder` and return everything that was logged."""
    logged: list[TrainingMetrics] = []
    config = {"config": SDXL} if sdxl else {}
    chosen = policy(folder / "base", run_spec.tuning, prediction=prediction, **config)
    train(run_spec, chosen, NoisePairs(sdxl), folder, logged.append)
    return logged


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What the last checkpoint holds."""
    return load_file(finished(folder)[-1] / "weights.safetensors")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: str(objective.name))
def test_training_prefers_the_chosen_images_more_and_more(tmp_path: Path, objective: Objective) -> None:
    logged = run(tmp_path, spec(objective, steps=40, learning_rate=3e-3))
    if not isinstance(objective, Sft):
        assert logged[-1].reward_margin > max(0.0, logged[0].reward_margin)
    assert logged[-1].chosen_error < logged[-1].reference_chosen_error or not isinstance(objective, Sft)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sdxl", [False, True], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("tuning", [Lora(rank=4), Full()], ids=["lora", "full"])
def test_every_kind_of_model_is_trained(tmp_path: Path, tuning: Tuning, sdxl: bool, prediction: str) -> None:
    logged = run(tmp_path, spec(DiffusionDpo(beta=100.0), tuning, steps=2), sdxl, prediction)
    assert logged[0].chosen_error == pytest.approx(logged[0].reference_chosen_error)
    assert logged[1].chosen_error != logged[1].reference_chosen_error


@pytest.mark.parametrize("objective", OBJECTIVES[::2], ids=lambda objective: str(objective.name))
def test_four_at_once_take_the_step_of_two_times_two(tmp_path: Path, objective: Objective) -> None:
    whole = run(tmp_path / "4x1", spec(objective, steps=3))
    parts = run(tmp_path / "2x2", spec(objective, steps=3, batch_size=2, gradient_accumulation_steps=2))
    assert [metrics.loss for metrics in whole] == pytest.approx([metrics.loss for metrics in parts], rel=1e-4)
    same_steps(tmp_path / "4x1", tmp_path / "2x2")


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = spec(DiffusionDpo(beta=100.0), Lora(rank=4), checkpoint_every_steps=3, ema_decay=0.9)
    run(tmp_path / "undisturbed", whole)
    steps: list[int] = []

    def stop_once() -> bool:
        steps.append(1)
        return len(steps) == 5

    train(whole, policy(tmp_path / "base", whole.tuning), NoisePairs(), tmp_path / "cut", cancelled=stop_once)
    assert finished(tmp_path / "cut")[-1].name == "00000005"
    went_on: list[TrainingMetrics] = []
    train(whole, policy(tmp_path / "base", whole.tuning), NoisePairs(), tmp_path / "cut", went_on.append)
    assert [metrics.step for metrics in went_on] == [6, 7, 8, 9, 10], "it began anew"
    for name in ("weights", "optimizer", "average"):
        one, other = (finished(tmp_path / run)[-1] / f"{name}.safetensors" for run in ("undisturbed", "cut"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_stop_that_comes_with_the_last_step_changes_nothing(tmp_path: Path) -> None:
    short = spec(DiffusionDpo(), Lora(rank=4), steps=1)
    ended = train(
        short, policy(tmp_path / "base", short.tuning), NoisePairs(), tmp_path, cancelled=lambda: True
    )
    assert ended is not None
    assert load_file(tmp_path / "weights.safetensors").keys() == weights(tmp_path).keys()


_TRAIN = """
import sys
from pathlib import Path
import torch
from retouche.contract.runs import RunSpec
from tests.trainer.tiny import NoisePairs
from trainer.loop import train
from trainer.policy import load

folder = Path(sys.argv[1])
spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
dtype = torch.bfloat16 if spec.optimisation.mixed_precision == "bf16" else torch.float32
policy = load(str(folder / "base"), spec.tuning, seed=0, dtype=dtype)
train(spec, policy, NoisePairs(), folder, lambda metrics: print(metrics.loss))
"""


@pytest.mark.parametrize("tuning", [Lora(rank=4), Full()], ids=["lora", "full"])
def test_mixed_precision_takes_nearly_the_same_steps(tmp_path: Path, tuning: Tuning) -> None:
    """In a process of its own: accelerate knows one precision a process. On a GPU, where there is one."""
    whole = spec(DiffusionDpo(beta=10.0), tuning, ema_decay=0.9)
    plain = [metrics.loss for metrics in run(tmp_path / "plain", whole)]
    folder = tmp_path / "mixed"
    save_base(folder / "base")
    how = whole.optimisation.model_copy(update={"mixed_precision": "bf16"})
    (folder / "spec.json").write_text(whole.model_copy(update={"optimisation": how}).model_dump_json())
    command = [sys.executable, "-c", _TRAIN, str(folder)]
    trained = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [float(line) for line in trained.stdout.splitlines()] == pytest.approx(plain, rel=0.05)
    assert {weight.dtype for weight in weights(folder).values()} == {torch.float32}


def test_a_killed_process_started_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = spec(DiffusionDpo(beta=100.0), steps=60, checkpoint_every_steps=4)
    run(tmp_path / "undisturbed", whole)
    folder = tmp_path / "killed"
    save_base(folder / "base")
    (folder / "spec.json").write_text(whole.model_dump_json())
    command = [sys.executable, "-c", _TRAIN, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    while not finished(folder) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    same = [weights(tmp_path / "undisturbed"), weights(folder)]
    assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())


def test_a_collapse_stops_the_run_and_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    doomed = spec(
        DiffusionDpo(beta=1e5), steps=60, learning_rate=0.3, checkpoint_every_steps=1, collapse_ratio=3
    )
    with pytest.raises(TrainingStopped, match=r"collapse_ratio|not finite|is nan|is inf"):
        run(tmp_path, doomed)
    assert all(weight.isfinite().all() for weight in weights(tmp_path).values())


@pytest.mark.parametrize("name", ["loss", "rejected_error", "reward_margin"])
def test_a_number_that_is_none_stops_the_run_before_it_is_logged(name: str) -> None:
    sound = TrainingMetrics.model_validate(dict.fromkeys(TrainingMetrics.model_fields, 1))
    stop_if_hopeless(sound, collapse_ratio=2.0)
    with pytest.raises(TrainingStopped, match=f"at step 1 {name} is inf: lower learning_rate"):
        stop_if_hopeless(sound.model_copy(update={name: math.inf}), collapse_ratio=2.0)


def test_another_specification_does_not_resume(tmp_path: Path) -> None:
    run(tmp_path, spec(DiffusionDpo(), steps=1))
    with pytest.raises(Conflict, match="objective"):
        run(tmp_path, spec(DiffusionDpo(beta=1.0), steps=1))


def test_other_pairs_do_not_resume(tmp_path: Path) -> None:
    """A folder may change under a run: the same positions would be other pairs."""
    short = spec(DiffusionDpo(), steps=1)
    run(tmp_path, short)
    with pytest.raises(Conflict, match="other pairs"):
        train(short, policy(tmp_path / "base", short.tuning), NoisePairs(count=11), tmp_path)


def test_a_base_that_cannot_be_trained_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no Stable Diffusion pipeline"):
        check_base(str(tmp_path))
    with pytest.raises(BadRequest, match="'sample'"):
        check_base(str(save_base(tmp_path / "base", prediction_type="sample")))


@pytest.mark.parametrize("objective", [DiffusionDpo(beta=100.0), DiffusionRpo(beta=100.0, temperature=0.5)])
def test_two_processes_take_the_step_of_one(tmp_path: Path, objective: Objective) -> None:
    """Half the batch on each of two processes, as `accelerate launch` starts them."""
    run(tmp_path / "one", spec(objective, steps=3))
    folder = tmp_path / "two"
    save_base(folder / "base")
    (folder / "spec.json").write_text(spec(objective, steps=3, batch_size=2).model_dump_json())
    (folder / "train.py").write_text(_TRAIN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(folder / "train.py"), str(folder)], check=True, cwd=root, env=environment)
    same_steps(tmp_path / "one", folder)


def same_steps(one: Path, other: Path) -> None:
    """Weights alone would not show a gradient of another scale: AdamW takes the same step for it."""
    for file in ("weights", "optimizer"):
        left, right = (load_file(finished(folder)[-1] / f"{file}.safetensors") for folder in (one, other))
        for name, tensor in left.items():
            assert torch.allclose(tensor, right[name], rtol=1e-3, atol=2e-5), name


def test_the_moving_average_follows_the_weights(tmp_path: Path) -> None:
    averaged = spec(DiffusionDpo(beta=100.0), Lora(rank=4), steps=3, ema_decay=0.5, checkpoint_every_steps=1)
    start = policy(tmp_path / "untouched", averaged.tuning).trainable()
    expected = {name: weight.detach().clone() for name, weight in start.items()}
    for steps in (1, 2, 3):
        run(tmp_path / str(steps), averaged.model_copy(update={"optimisation": _until(averaged, steps)}))
        for name, weight in weights(tmp_path / str(steps)).items():
            expected[name] = 0.5 * expected[name] + 0.5 * weight
    result = load_file(tmp_path / "3" / "weights.safetensors")
    assert all(torch.allclose(result[name], average, atol=1e-6) for name, average in expected.items())


def _until(run_spec: RunSpec, steps: int) -> Optimisation:
    return run_spec.optimisation.model_copy(update={"steps": steps})


def test_another_batch_a_step_does_not_resume(tmp_path: Path) -> None:
    """As after a start with another number of processes: the specification is the same."""
    run(tmp_path, spec(DiffusionDpo(), steps=2))
    state = finished(tmp_path)[-1] / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"positions": 4}))
    with pytest.raises(Conflict, match="2 pairs a step and this would take 4"):
        run(tmp_path, spec(DiffusionDpo(), steps=2))
