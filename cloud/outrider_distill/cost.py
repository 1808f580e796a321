"""What a part of a distillation took. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens, and the time that they took.

    Attributes:
        num_tokens: that were written, or learned from.
        seconds: all that passed meanwhile, of all calls together.
    """

    num_tokens: int
    seconds: float

    def __str__(self) -> str:
        if not self.seconds:
            return "not timed"
        rate = self.num_tokens / self.seconds
        return f"{self.num_tokens} tokens in {self.seconds:.0f} s, {rate:.0f} tokens/s"
