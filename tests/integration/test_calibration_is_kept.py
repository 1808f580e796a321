"""What an edge learns of a pair of models is there the next time, over the real stack."""

from pathlib import Path

from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.generation import GenerationRequest
from outrider_edge.runtime import edge_runtime
from outrider_models.bundle import Bundle


async def test_what_an_answer_teaches_is_kept_for_its_pair_of_models(
    verifier_address: str, int8_bundle: Bundle, tmp_path: Path
) -> None:
    store = CalibrationStore(tmp_path)
    settings = EdgeSettings(verifier=verifier_address, proposers=("lm",))
    async with edge_runtime(settings, int8_bundle, store) as runtime:
        prompt = tuple(runtime.tokenizer.encode("The capital of France is"))
        request = GenerationRequest(prompt, 16, SamplingParams(), ignore_eos=True)
        await runtime.generate(request, lambda _record: None)
        learnt = runtime.calibration.to_json()
        target = runtime.info.model
    assert '"family": "lm greedy exact"' in learnt
    assert store.load(target, int8_bundle.path.name).to_json() == learnt
    async with edge_runtime(settings, int8_bundle, store) as runtime:
        assert runtime.calibration.to_json() == learnt
