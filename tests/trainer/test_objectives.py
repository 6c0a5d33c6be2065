"""Every objective against a number worked out by hand, and against its formula written out long."""

import math

import pytest
import torch

from trainer.objectives.anchor import anchor
from trainer.objectives.diffusion_dpo import diffusion_dpo
from trainer.objectives.diffusion_rpo import diffusion_rpo, relation_weights
from trainer.objectives.errors import PairErrors, squared_error
from trainer.objectives.rich_dpo import difference_weights
from trainer.objectives.sft import sft

ONE = PairErrors(*(torch.tensor([value]) for value in (0.3, 0.5, 0.4, 0.4)))


def some_errors(pairs: int = 5) -> PairErrors:
    generator = torch.Generator().manual_seed(1)
    return PairErrors(*torch.rand(4, pairs, generator=generator))


def unit(rows: int, seed: int) -> torch.Tensor:
    noise = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(noise, dim=-1)


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        # the policy is .1 better than the reference on the chosen image, .1 worse on the rejected one:
        # s = -1/2 * 10 * (-.1 - .1) = 1
        ("sigmoid", math.log(1 + math.exp(-1))),
        ("hinge", 0.0),
        ("ipo", (0.1 - 0.05) ** 2),
    ],
)
def test_dpo_is_what_one_works_out_by_hand(loss: str, by_hand: float) -> None:
    assert diffusion_dpo(ONE, 10.0, loss).item() == pytest.approx(by_hand, abs=1e-6)  # type: ignore[arg-type]


def test_dpo_is_its_formula_written_out() -> None:
    errors, beta = some_errors(), 7.0
    for index, loss in enumerate(diffusion_dpo(errors, beta).tolist()):
        m_w, m_l = errors.policy_chosen_B[index].item(), errors.policy_rejected_B[index].item()
        r_w, r_l = errors.reference_chosen_B[index].item(), errors.reference_rejected_B[index].item()
        inside = -0.5 * beta * ((m_w - m_l) - (r_w - r_l))
        assert loss == pytest.approx(-math.log(1 / (1 + math.exp(-inside))), abs=1e-6)


def test_a_policy_equal_to_its_reference_loses_log_two() -> None:
    same = PairErrors(*(torch.tensor([0.2, 0.7]) for _ in range(4)))
    assert diffusion_dpo(same, 5000.0).tolist() == pytest.approx([math.log(2)] * 2)


def test_relative_loss_of_one_pair_is_dpo() -> None:
    weights = relation_weights(unit(1, 2), unit(1, 3), temperature=0.1)
    relative = diffusion_rpo(ONE.chosen_excess_B, ONE.rejected_excess_B, weights, beta=10.0)
    assert relative.item() == pytest.approx(diffusion_dpo(ONE, 10.0).item())


def test_relative_loss_is_its_formula_written_out() -> None:
    errors, beta, temperature = some_errors(4), 9.0, 0.3
    chosen, rejected = unit(4, 2), unit(4, 3)
    losses = diffusion_rpo(
        errors.chosen_excess_B,
        errors.rejected_excess_B,
        relation_weights(chosen, rejected, temperature),
        beta,
    )
    for i in range(4):
        closeness = [math.exp(-(1 - float(chosen[i] @ rejected[j])) / temperature) for j in range(4)]
        total = 0.0
        for j in range(4):
            omega = closeness[j] / sum(closeness)
            margin = -0.5 * beta * float(errors.chosen_excess_B[i] - errors.rejected_excess_B[j])
            total += -math.log(1 / (1 + math.exp(-omega * margin)))
        assert losses[i].item() == pytest.approx(total / 4, abs=1e-5)


def test_relation_weights_sum_to_one_and_prefer_the_nearest() -> None:
    chosen = unit(3, 5)
    weights = relation_weights(chosen, torch.cat([chosen[:1], unit(4, 6)]), temperature=0.05)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert weights[0].argmax() == 0


def test_rich_weights_look_where_the_images_differ_and_strength_zero_is_plain() -> None:
    chosen = torch.zeros(1, 2, 2, 2)
    rejected = chosen.clone()
    rejected[..., 0, 0] = 1.0
    assert difference_weights(chosen, rejected, 1.0).flatten().tolist() == [4.0, 0.0, 0.0, 0.0]
    assert difference_weights(chosen, rejected, 0.5).flatten().tolist() == [2.5, 0.5, 0.5, 0.5]
    assert difference_weights(chosen, rejected, 0.0).flatten().tolist() == [1.0] * 4
    assert difference_weights(chosen, chosen, 1.0).flatten().tolist() == [1.0] * 4


def test_a_weighted_error_counts_only_where_it_is_told_to() -> None:
    predicted, target = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    predicted[..., 0, 0] = 2.0
    assert squared_error(predicted, target).item() == 1.0
    weights = torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]])
    assert squared_error(predicted, target, weights).item() == 0.0


def test_supervised_fine_tuning_and_the_anchor_look_at_the_chosen_image_alone() -> None:
    errors = some_errors()
    assert torch.equal(sft(errors), errors.policy_chosen_B)
    assert torch.equal(anchor(errors, 200.0), 200 * errors.policy_chosen_B)
