"""What the checks of the doctor look at, and what they leave for each other."""

from dataclasses import dataclass
from time import monotonic, time

from outrider_common.config import Settings
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import ConfigError
from outrider_common.messages import ModelInfo
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root


@dataclass(slots=True)
class Patient:
    """An edge, as far as it is known.

    Attributes:
        loaded: the settings in force, or why there are none.
        bundle: the drafter.
        tokenizer: its tokenizer.
        fingerprint: of the tokenizer.
        info: what the verifier said of its model.
        draft_s: a step of the draft model.
        round_trip_s: to the verifier and back.
        began_at: wall and monotonic clock when the examination began.
    """

    loaded: LoadedSettings | ConfigError
    bundle: Bundle | None = None
    tokenizer: EdgeTokenizer | None = None
    fingerprint: str | None = None
    info: ModelInfo | None = None
    draft_s: float | None = None
    round_trip_s: float | None = None
    began_at: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.began_at = time(), monotonic()

    @property
    def settings(self) -> Settings:
        """The settings in force.

        Raises:
            ConfigError: they cannot be used.
        """
        if isinstance(self.loaded, ConfigError):
            raise self.loaded
        return self.loaded.settings

    @property
    def store(self) -> ModelStore:
        """The model store."""
        return ModelStore(self.settings.models.cache_dir or default_root())
