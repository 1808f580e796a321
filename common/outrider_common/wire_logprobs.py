"""Log-probabilities of a commit to and from the wire, in float32.

Pure. Knows nothing of what they are needed for.
"""

from collections.abc import Sequence

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import ProtocolViolationError
from outrider_common.logprobs import TokenLogprobs


def encode_logprobs(logprobs: Sequence[TokenLogprobs], message: pb.Commit) -> None:
    """Add them to a commit; where there are none, not a byte."""
    for one in logprobs:
        message.logprobs.append(one.logprob)
        for token, logprob in one.top:
            message.top_tokens.append(token)
            message.top_logprobs.append(logprob)


def decode_logprobs(message: pb.Commit) -> tuple[TokenLogprobs, ...]:
    """For each token of a commit equally many of the likeliest.

    Raises:
        ProtocolViolationError: they do not fit the tokens.
    """
    num_tokens, num_top = len(message.tokens), len(message.top_tokens)
    if not message.logprobs and not num_top and not message.top_logprobs:
        return ()
    is_even = num_tokens > 0 and num_top % num_tokens == 0
    if not is_even or len(message.logprobs) != num_tokens or len(message.top_logprobs) != num_top:
        raise ProtocolViolationError(
            f"A commit of {num_tokens} tokens comes with {len(message.logprobs)} "
            f"log-probabilities, {num_top} likeliest tokens and {len(message.top_logprobs)} "
            "log-probabilities of those; there must be one for each token, and equally many of the "
            "likeliest, each with its own."
        )
    each = num_top // num_tokens
    top = list(zip(message.top_tokens, message.top_logprobs, strict=True))
    return tuple(
        TokenLogprobs(logprob, tuple(top[i * each : (i + 1) * each]))
        for i, logprob in enumerate(message.logprobs)
    )
