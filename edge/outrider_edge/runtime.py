"""The edge's composition root: builds tokenizer, proposers and link from the settings.

The one place that knows every class of the edge.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from outrider_common.config import EdgeSettings, ProposerName
from outrider_common.errors import MismatchError
from outrider_common.generation_trace import GenerationTrace
from outrider_common.messages import PROTOCOL_VERSION, ModelInfo
from outrider_common.spans import NO_SPANS, Spans
from outrider_edge.batched_drafting import BatchedModel
from outrider_edge.block_proposer import BlockFactory
from outrider_edge.calibration import Calibration
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.combined import CombinedFactory
from outrider_edge.estimators import Estimators
from outrider_edge.generation import Generation, GenerationRequest, GenerationResult, OnToken
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.language_model import LanguageModelFactory
from outrider_edge.link import VerifierLink
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.policies import AUTO, POLICIES, DraftingPolicy
from outrider_edge.proposer import DraftingTask, ProposerFactory
from outrider_edge.recycling import RecyclingFactory
from outrider_edge.request_spans import generation_span, result_attributes
from outrider_edge.retrieval import RetrievalFactory
from outrider_edge.simple_proposers import GarbageFactory, NoneFactory
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_edge.tracing import TraceRecorder
from outrider_models.bundle import Bundle, tokenizer_fingerprint


@dataclass(frozen=True, slots=True)
class EdgeRuntime:
    """What generations share: one tokenizer, one drafter, one verifier.

    Attributes:
        tokenizer: text in, text out.
        fingerprint: of the tokenizer.
        factory: makes the proposers.
        link: the way to the verifier.
        info: what the verifier said of its model.
        executor: threads on which drafting runs, one for each answer that is drafted for at once.
        max_depth: draft nodes ahead of the committed text at most.
        calibration: what guesses are worth; every generation adds to it.
        estimators: the pace of link, verifier and drafter; every generation adds to it.
        policy: how sessions draft.
        spans: where requests are traced.
    """

    tokenizer: EdgeTokenizer
    fingerprint: str
    factory: ProposerFactory
    link: VerifierLink
    info: ModelInfo
    executor: Executor
    max_depth: int
    calibration: Calibration
    estimators: Estimators
    policy: DraftingPolicy = AUTO
    spans: Spans = NO_SPANS

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
    ) -> GenerationResult:
        """Answer one request; each token goes to `on_token` as it is committed.

        A recorder is told of everything that happens.

        Raises:
            OutriderError: the request cannot be served.
        """
        self.info.check_prompt_length(len(request.prompt))  # as the verifier would, but sooner
        self.info.check_acceptance_mode(request.acceptance.mode)
        task = DraftingTask(
            request.sampling, len(request.prompt), self.info.vocab_size, request.acceptance.mode
        )
        generation = Generation(
            request,
            link=self.link,
            info=self.info,
            tokenizer_fingerprint=self.fingerprint,
            proposer=self.factory.start(task),
            proposer_name=self.factory.name,
            detokenizer=self.tokenizer.detokenizer(),
            executor=self.executor,
            max_depth=self.max_depth,
            on_token=on_token,
            calibration=self.calibration,
            estimators=self.estimators,
            policy=self.policy,
            recorder=recorder,
        )
        with self.spans.of_request(*generation_span(request, self.info.model)) as span:
            result = await generation.run()
            span.set(result_attributes(result))
        return result

    def trace(
        self, recorder: TraceRecorder, result: GenerationResult, drafter: str
    ) -> GenerationTrace:
        """What a recorder saw of an answer, with texts and names.

        Args:
            recorder: that `generate` was given.
            result: what it gave.
            drafter: the name of what drafted.
        """
        return recorder.trace(
            round_trip_s=self.estimators.estimates().round_trip_s,
            target=self.info.model,
            drafter=drafter,
            texts={record.position: record.text for record in result.records},
            text_of=lambda token: self.tokenizer.decode([token]),
        )


@contextlib.asynccontextmanager
async def edge_runtime(
    settings: EdgeSettings,
    bundle: Bundle,
    calibrations: CalibrationStore | None = None,
    spans: Spans = NO_SPANS,
) -> AsyncIterator[EdgeRuntime]:
    """Load the drafter, reach the verifier, and check that the two fit.

    Args:
        settings: of the edge.
        bundle: the drafter.
        calibrations: where to keep what is learnt of this target and this drafter; None forgets it.
        spans: where requests are traced.

    Raises:
        UnavailableError: no verifier answers.
        MismatchError: the verifier's model has another tokenizer, or speaks another protocol.
        ModelFileError: the bundle cannot be used.
    """
    tokenizer = load_tokenizer(bundle)
    fingerprint = tokenizer_fingerprint(tokenizer.vocabulary())
    async with GrpcLink(settings.verifier, connect_timeout_s=settings.connect_timeout_s) as link:
        info = await link.model_info()
        _refuse_strangers(info, fingerprint, settings)
        policy = POLICIES[settings.policy].with_block(settings.block_nodes)
        names = settings.proposers if policy.drafts else ("none",)
        factory = CombinedFactory([_MAKERS[name](settings, bundle) for name in names])
        pair = info.model, bundle.path.name
        with (
            _kept(calibrations, *pair) as calibration,
            ThreadPoolExecutor(settings.concurrent_drafts, "outrider-draft") as executor,
        ):
            yield EdgeRuntime(
                tokenizer=tokenizer,
                fingerprint=fingerprint,
                factory=factory,
                link=link,
                info=info,
                executor=executor,
                max_depth=settings.max_depth,
                calibration=calibration,
                estimators=Estimators(),
                policy=policy,
                spans=spans,
            )


@contextlib.contextmanager
def _kept(store: CalibrationStore | None, target: str, bundle: str) -> Iterator[Calibration]:
    """What was learnt of a pair; kept again in the end, whatever that is."""
    calibration = store.load(target, bundle) if store else Calibration()
    try:
        yield calibration
    finally:
        if store:
            store.save(target, bundle, calibration)


def load_tokenizer(bundle: Bundle) -> EdgeTokenizer:
    """The tokenizer and chat template of a bundle."""
    manifest = bundle.manifest
    eos = next(iter(manifest.eos_token_ids), None)
    return EdgeTokenizer.load(bundle.path, {"bos_token": manifest.bos_token_id, "eos_token": eos})


def _language_model(settings: EdgeSettings, bundle: Bundle) -> ProposerFactory:
    model = OnnxModel(
        bundle,
        num_threads=settings.num_threads,
        allow_spinning=settings.allow_spinning,
        providers=settings.providers,
    )
    shared = BatchedModel(model)
    masks = bundle.manifest.mask_token_ids
    return BlockFactory(shared, masks) if masks else LanguageModelFactory(shared)


_MAKERS: dict[ProposerName, Callable[[EdgeSettings, Bundle], ProposerFactory]] = {
    "lm": _language_model,
    "retrieval": lambda settings, _bundle: RetrievalFactory(
        memory_tokens=settings.retrieval_memory_tokens
    ),
    "recycling": lambda _settings, _bundle: RecyclingFactory(),
    "garbage": lambda _settings, _bundle: GarbageFactory(),
    "none": lambda _settings, _bundle: NoneFactory(),
}
"""The registry of proposers: one line each."""


def _refuse_strangers(info: ModelInfo, fingerprint: str, settings: EdgeSettings) -> None:
    if info.protocol_version != PROTOCOL_VERSION:
        raise MismatchError(
            f"The verifier at {settings.verifier} speaks protocol version "
            f"{info.protocol_version}, this edge speaks {PROTOCOL_VERSION}; install the same "
            "release of outrider on both sides."
        )
    if info.tokenizer_fingerprint != fingerprint:
        raise MismatchError(
            f"The bundle '{settings.bundle}' has another tokenizer ({fingerprint}) than the "
            f"verifier's model '{info.model}' ({info.tokenizer_fingerprint}); use a bundle made "
            "for that model, see 'outrider models export'."
        )
