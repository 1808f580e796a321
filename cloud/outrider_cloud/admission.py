"""Whether a session that an edge wants to open fits the target.

Pure checks, each with one clear sentence. Knows nothing of load: that is the engine's business.
"""

from outrider_common.errors import (
    InvalidInputError,
    InvalidPromptError,
    MismatchError,
    ProtocolViolationError,
    UnknownModelError,
)
from outrider_common.logprobs import MAX_TOP_LOGPROBS
from outrider_common.messages import (
    MAX_RUNNER_UPS,
    PROTOCOL_VERSION,
    Extend,
    ModelInfo,
    OpenSession,
)
from outrider_common.settings.edge import MAX_PAD_MS, MIN_PAD_MS


def refuse_unfit(message: OpenSession, info: ModelInfo) -> None:
    """Check everything about a new session that depends on the target.

    Raises:
        MismatchError: another protocol version or another tokenizer.
        UnknownModelError: a model that is not here.
        UnsupportedError: an acceptance mode that is not offered.
        InvalidPromptError: an empty or too long prompt, or unknown tokens in it.
        InvalidInputError: `max_tokens`, stop tokens, runner-ups, log-probabilities or padding out
            of range.
    """
    _check_version(message.protocol_version)
    check_model_name(message.model, info)
    _check_tokenizer(message, info)
    info.check_acceptance_mode(message.acceptance.mode)
    _check_prefix(message, info)
    _check_end(message, info)
    _check_runner_ups(message)
    _check_padding(message)
    _check_logprobs(message)


def check_model_name(model: str, info: ModelInfo) -> None:
    """Refuse a model that is not here; empty means whichever there is.

    Raises:
        UnknownModelError: naming the one that is here.
    """
    if model not in ("", info.model):
        raise UnknownModelError(
            f"The model '{model}' is not here; this verifier serves '{info.model}'."
        )


def refuse_unknown_tokens(message: Extend, info: ModelInfo) -> None:
    """Refuse draft nodes whose tokens the target does not have.

    Raises:
        ProtocolViolationError: naming the first of them.
    """
    for node in message.nodes:
        if node.token >= info.vocab_size:
            raise ProtocolViolationError(
                f"Draft node {node.node_id} carries token {node.token}, but the model "
                f"'{info.model}' has tokens 0 to {info.vocab_size - 1}; "
                "drop such guesses before sending them."
            )
        if node.draft is not None and max(node.draft.token_ids) >= info.vocab_size:
            raise ProtocolViolationError(
                f"Draft node {node.node_id} was drawn from tokens up to "
                f"{max(node.draft.token_ids)}, but the model '{info.model}' has tokens 0 to "
                f"{info.vocab_size - 1}; draw from those only."
            )


def _check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        raise MismatchError(
            f"The edge speaks protocol version {version}, this verifier speaks "
            f"{PROTOCOL_VERSION}; install the same release of outrider on both sides."
        )


def _check_tokenizer(message: OpenSession, info: ModelInfo) -> None:
    if message.tokenizer_fingerprint != info.tokenizer_fingerprint:
        raise MismatchError(
            f"The edge's tokenizer has the fingerprint '{message.tokenizer_fingerprint}', that of "
            f"'{info.model}' is '{info.tokenizer_fingerprint}'; use a drafter bundle made for "
            "this model."
        )


def _check_prefix(message: OpenSession, info: ModelInfo) -> None:
    length = len(message.prefix)
    info.check_prompt_length(length)
    if not 1 <= message.num_prompt_tokens <= length:
        raise InvalidPromptError(
            f"num_prompt_tokens is {message.num_prompt_tokens}, but must be between 1 and the "
            f"{length} tokens of the prefix."
        )
    largest = max(message.prefix)
    if largest >= info.vocab_size:
        raise InvalidPromptError(
            f"The prompt has the token {largest}, but '{info.model}' has tokens 0 to "
            f"{info.vocab_size - 1}; encode it with the model's own tokenizer."
        )


def _check_end(message: OpenSession, info: ModelInfo) -> None:
    num_generated = len(message.prefix) - message.num_prompt_tokens
    if message.max_tokens <= num_generated:
        raise InvalidInputError(
            f"max_tokens is {message.max_tokens}, but must be above the {num_generated} tokens "
            "that were generated before."
        )
    for token in message.stop_token_ids:
        if token >= info.vocab_size:
            raise InvalidInputError(
                f"The stop token {token} is not a token of '{info.model}', which has tokens 0 to "
                f"{info.vocab_size - 1}."
            )


def _check_runner_ups(message: OpenSession) -> None:
    if message.num_runner_ups > MAX_RUNNER_UPS:
        raise InvalidInputError(
            f"num_runner_ups is {message.num_runner_ups}, but a verifier sends at most "
            f"{MAX_RUNNER_UPS} of each token; ask for fewer."
        )


def _check_padding(message: OpenSession) -> None:
    if message.pad_ms and not MIN_PAD_MS <= message.pad_ms <= MAX_PAD_MS:
        raise InvalidInputError(
            f"pad_ms is {message.pad_ms}, but a verifier sends padded messages every {MIN_PAD_MS} "
            f"to {MAX_PAD_MS} ms, or, with 0, none; set edge.pad_ms to one of these."
        )


def _check_logprobs(message: OpenSession) -> None:
    if (message.num_top_logprobs or 0) > MAX_TOP_LOGPROBS:
        raise InvalidInputError(
            f"num_top_logprobs is {message.num_top_logprobs}, but a verifier sends at most "
            f"{MAX_TOP_LOGPROBS} for each token; ask for fewer."
        )
