"""The edge's composition root: builds tokenizer, proposers and link from the settings.

The one place that knows every class of the edge.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import UnavailableError
from outrider_common.generation_trace import GenerationTrace
from outrider_common.messages import PROTOCOL_VERSION, ModelInfo, Occupancy
from outrider_common.settings.edge import EdgeSettings, ProposerName
from outrider_common.spans import NO_SPANS, Spans
from outrider_edge.answer import OnToken
from outrider_edge.batched_drafting import BatchedModel
from outrider_edge.block_proposer import BlockFactory
from outrider_edge.calibration import Calibration
from outrider_edge.calibration_store import CalibrationStore, kept
from outrider_edge.combined import CombinedFactory, CombinedProposer
from outrider_edge.drafter import Drafter
from outrider_edge.estimators import Estimators
from outrider_edge.generation import Generation, GenerationRequest, GenerationResult
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.known_models import KnownModels
from outrider_edge.language_model import LanguageModelFactory
from outrider_edge.link import VerifierLink
from outrider_edge.link_security import LinkSecurity
from outrider_edge.lone_drafter import LoneDrafter
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.policies import AUTO, POLICIES, DraftingPolicy
from outrider_edge.pool_member import Unfit
from outrider_edge.proposer import DraftingTask, Proposer, ProposerFactory
from outrider_edge.recall import NAME, Recall
from outrider_edge.recycling import RecyclingFactory
from outrider_edge.request_spans import generation_span, result_attributes
from outrider_edge.resuming import Patience
from outrider_edge.retrieval import RetrievalFactory
from outrider_edge.simple_proposers import GarbageFactory, NoneFactory
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_edge.tracing import TraceRecorder
from outrider_edge.verifier_addresses import is_dynamic, resolve, split_addresses
from outrider_edge.verifier_pool import VerifierPool
from outrider_models.bundle import Bundle, tokenizer_fingerprint

ALONE_AFTER_S: Final = 0.5
"""For so long an answer that may be written alone tries to find a verifier that takes sessions: a
connection that was reset, or a proxy that was restarted, costs no unverified text."""

_LONE: Final = (LanguageModelFactory.name, BlockFactory.name)
"""Proposers that are models, so that what they guess first can stand alone."""


@dataclass(frozen=True, slots=True)
class EdgeRuntime:
    """What generations share: one tokenizer, one drafter, the verifiers of one model.

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
        policies: those that a request may ask for, by name.
        patience: for how long an answer tries to go on after a break.
        pool: the verifiers; None: there is only the one behind the link.
        calibration_of: what guesses are worth with another model; None: there is no other.
        lone_factory: makes what can write alone; None: there is no draft model.
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
    policies: Mapping[str, DraftingPolicy] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)
    pool: VerifierPool | None = None
    calibration_of: Callable[[str], Calibration] | None = None
    lone_factory: ProposerFactory | None = None
    spans: Spans = NO_SPANS

    @property
    def infos(self) -> Mapping[str, ModelInfo]:
        """What is known of each model that is there, by name."""
        return (self.pool.infos if self.pool else None) or {self.info.model: self.info}

    def at(self, model: str) -> "EdgeRuntime":
        """The same with another of the models."""
        if model == self.info.model or self.pool is None or self.calibration_of is None:
            return self
        return replace(
            self,
            info=self.infos[model],
            link=self.pool.serving(model),
            calibration=self.calibration_of(model),
        )

    def hasty(self, num_breaks: int) -> "EdgeRuntime":
        """The same, but it soon gives up where no verifier takes sessions; see `Patience`."""
        patience = replace(self.patience, alone_s=ALONE_AFTER_S, num_breaks=num_breaks)
        return replace(self, patience=patience)

    def lone_drafter(self, request: GenerationRequest, policy: str | None) -> LoneDrafter | None:
        """What writes an answer while no verifier is there; None where nothing can, or may."""
        drafting = self.policy if policy is None else self.policies[policy]
        if self.lone_factory is None or not drafting.drafts:
            return None
        task = replace(self._task(request), acceptance_mode=AcceptanceMode.EXACT)
        proposer = self.lone_factory.start(task)
        return LoneDrafter(Drafter(proposer, self.lone_factory.name, self.executor))

    def verifiers(self) -> list[dict[str, Any]]:
        """How each verifier is."""
        return self.pool.report() if self.pool else []

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        """Answer one request; each token goes to `on_token` as it is committed.

        Args:
            request: what to generate.
            on_token: takes the tokens.
            recorder: told of everything that happens.
            policy: the name of one in `policies`; None: the runtime's own. The pace at which things
                go under another one is kept from other requests, which it would mislead.

        Raises:
            OutriderError: the request cannot be served.
        """
        drafting = self.policy if policy is None else self.policies[policy]
        factory = self.factory if drafting.drafts else NoneFactory()
        generation = Generation(
            request,
            link=self.link,
            info=self.info,
            tokenizer_fingerprint=self.fingerprint,
            proposer=_recalling(request, factory.name, factory.start(self._task(request))),
            proposer_name=factory.name,
            detokenizer=self.tokenizer.detokenizer(),
            executor=self.executor,
            max_depth=self.max_depth,
            on_token=on_token,
            calibration=self.calibration,
            estimators=self.estimators,
            keeps_pace=drafting is self.policy,
            policy=drafting,
            recorder=recorder,
            patience=self.patience,
        )
        with self.spans.of_request(*generation_span(request, self.info.model)) as span:
            result = await generation.run()
            span.set(result_attributes(result))
        return result

    def _task(self, request: GenerationRequest) -> DraftingTask:
        """What a proposer is told; refuses what the verifier would refuse, but sooner."""
        self.info.check_prompt_length(len(request.prompt))
        self.info.check_acceptance_mode(request.acceptance.mode)
        return DraftingTask(
            request.sampling, len(request.prompt), self.info.vocab_size, request.acceptance.mode
        )

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


def _recalling(request: GenerationRequest, name: str, proposer: Proposer) -> Proposer:
    """The same, after what is foreseen of the answer."""
    if not request.foreseen:
        return proposer
    recall = Recall(len(request.prompt) + len(request.written), request.foreseen)
    return CombinedProposer([(NAME, recall), (name, proposer)])


@contextlib.asynccontextmanager
async def edge_runtime(
    settings: EdgeSettings,
    bundle: Bundle,
    calibrations: CalibrationStore | None = None,
    spans: Spans = NO_SPANS,
    known: KnownModels | None = None,
) -> AsyncIterator[EdgeRuntime]:
    """Load the drafter, reach the verifier, and check that the two fit.

    Args:
        settings: of the edge.
        bundle: the drafter.
        calibrations: where to keep what is learnt of this target and this drafter; None forgets it.
        spans: where requests are traced.
        known: what verifiers said before; if none answers now, they are taken for the same. None:
            one has to answer.

    Raises:
        UnavailableError: no verifier answers.
        MismatchError: the verifier's model has another tokenizer, or speaks another protocol.
        ModelFileError: the bundle cannot be used.
        ConfigError: a certificate or a token cannot be used.
        UnauthenticatedError: the verifier does not know us.
        PermissionDeniedError: it does, and refuses its model.
    """
    tokenizer = await asyncio.to_thread(load_tokenizer, bundle)
    fingerprint = tokenizer_fingerprint(tokenizer.vocabulary())
    async with _verifiers(settings, fingerprint, known) as pool:
        info = next(iter(pool.infos.values()))
        policies = offered_policies(settings)
        policy = policies[settings.policy]
        names = settings.proposers if policy.drafts else ("none",)
        # Loading a model takes a while, and the answers of another runtime shall not wait for it.
        factories = await asyncio.to_thread(_factories, names, settings, bundle)
        async with kept(calibrations, bundle.path.name) as learnt:
            with ThreadPoolExecutor(settings.concurrent_drafts, "outrider-draft") as executor:
                yield EdgeRuntime(
                    tokenizer=tokenizer,
                    fingerprint=fingerprint,
                    factory=CombinedFactory(factories),
                    link=pool.serving(info.model),
                    info=info,
                    executor=executor,
                    max_depth=settings.max_depth,
                    calibration=learnt.of(info.model),
                    estimators=pool.estimators,
                    policy=policy,
                    policies=policies,
                    patience=_patience(settings),
                    pool=pool,
                    calibration_of=learnt.of,
                    lone_factory=next((f for f in factories if f.name in _LONE), None),
                    spans=spans,
                )


def offered_policies(settings: EdgeSettings) -> dict[str, DraftingPolicy]:
    """Those that requests may ask for: an edge whose own does not draft has loaded no drafter."""
    has_drafter = POLICIES[settings.policy].drafts
    return {
        name: policy.with_block(settings.block_nodes)
        for name, policy in POLICIES.items()
        if has_drafter or not policy.drafts
    }


@contextlib.asynccontextmanager
async def _verifiers(
    settings: EdgeSettings, fingerprint: str, known: KnownModels | None
) -> AsyncIterator[VerifierPool]:
    """The verifiers that the settings name; at least one is there and fits, or did before."""
    addresses = split_addresses(settings.verifier)
    pool = VerifierPool(
        lambda: resolve(addresses),
        partial(
            GrpcLink,
            connect_timeout_s=settings.connect_timeout_s,
            security=LinkSecurity.of(settings),
            pad_ms=settings.pad_ms,
        ),
        lambda info: _unfit(info, fingerprint, settings),
        is_dynamic=is_dynamic(addresses),
    )
    try:
        await _meet(pool, settings, known, lambda info: _unfit(info, fingerprint, settings))
        async with pool.kept():
            yield pool
    finally:
        await pool.close()


async def _meet(
    pool: VerifierPool, settings: EdgeSettings, known: KnownModels | None, unfit: Unfit
) -> None:
    """Find out what the verifiers are; if none answers, by what they were."""
    before = known.at(settings.verifier) if known else None
    try:
        infos = await pool.meet()
    except UnavailableError:
        if before is None or unfit(before) is not None:
            raise
        pool.presume(before)
    else:
        if known:
            known.keep(
                settings.verifier, replace(next(iter(infos.values())), occupancy=Occupancy())
            )


def _patience(settings: EdgeSettings) -> Patience:
    return Patience(
        open_s=settings.connect_timeout_s,
        resume_s=settings.resume_timeout_s,
        heartbeat_s=settings.heartbeat_s,
    )


def load_tokenizer(bundle: Bundle) -> EdgeTokenizer:
    """The tokenizer and chat template of a bundle."""
    manifest = bundle.manifest
    eos = next(iter(manifest.eos_token_ids), None)
    return EdgeTokenizer.load(bundle.path, {"bos_token": manifest.bos_token_id, "eos_token": eos})


def _factories(
    names: Sequence[ProposerName], settings: EdgeSettings, bundle: Bundle
) -> list[ProposerFactory]:
    return [_MAKERS[name](settings, bundle) for name in names]


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


def _unfit(info: ModelInfo, fingerprint: str, settings: EdgeSettings) -> str | None:
    """Why a verifier's model is of no use to this edge; None if it is."""
    if info.protocol_version != PROTOCOL_VERSION:
        return (
            f"The verifier at {settings.verifier} speaks protocol version "
            f"{info.protocol_version}, this edge speaks {PROTOCOL_VERSION}; install the same "
            "release of outrider on both sides."
        )
    if info.tokenizer_fingerprint != fingerprint:
        return (
            f"The bundle '{settings.bundle}' has another tokenizer ({fingerprint}) than the "
            f"verifier's model '{info.model}' ({info.tokenizer_fingerprint}); use a bundle made "
            "for that model, see 'outrider models export'."
        )
    return None
