"""Log-probabilities from a part of the LM head."""

import torch

from outrider_distill.candidates import log_probs_of


def setting(vocab_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(6, 16, generator=chance)
    head = torch.randn(vocab_size, 16, generator=chance) * 0.3
    ids = (hidden @ head.T).topk(5).indices
    exact = (hidden @ head.T).log_softmax(-1).gather(-1, ids)
    return hidden, head, ids, exact


def test_with_as_many_stand_ins_as_tokens_it_is_exact() -> None:
    hidden, head, ids, exact = setting(300)
    found = log_probs_of(hidden, head, ids, torch.Generator(), num_stand_ins=300)
    torch.testing.assert_close(found, exact)


def test_the_normaliser_is_right_on_average() -> None:
    """The mean of 400 estimates lies within five of its standard errors: wrong once in 10**6."""
    hidden, head, ids, exact = setting(2000)
    chance = torch.Generator().manual_seed(1)
    logits = (hidden @ head.T).gather(-1, ids)
    # exp(logit - log p) is the normaliser, of which the estimate is unbiased.
    estimates = torch.stack(
        [
            (logits - log_probs_of(hidden, head, ids, chance, num_stand_ins=50)).exp()[:, 0]
            for _ in range(400)
        ]
    )
    truth = (logits - exact).exp()[:, 0]
    error = estimates.std(0) / 400**0.5
    assert ((estimates.mean(0) - truth).abs() < 5 * error).all()
    assert (error < 0.05 * truth).all()


def test_the_same_chance_gives_the_same_numbers() -> None:
    hidden, head, ids, _ = setting(2000)
    one, same, other = (
        log_probs_of(hidden, head, ids, torch.Generator().manual_seed(seed), num_stand_ins=50)
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
