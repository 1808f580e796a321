"""A rollout of a drafter bundle: its stages, and when the new drafter is worse than the old one.

Pure: every step gives a new value. Knows nothing of files, MQTT, or how bundles come into use.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from outrider_common.errors import InvalidInputError

DEFAULT_TRIAL_TOKENS: Final = 2000
DEFAULT_MARGIN: Final = 0.02

MOST_STARTS: Final = 3
"""A daemon that was started so often during a trial without getting further was killed by it."""


class BadDrafterError(InvalidInputError):
    """An offered drafter that this device does not take."""

    reason = "BAD_DRAFTER"


class Stage(StrEnum):
    """How far a rollout has got; see the protocol."""

    DOWNLOADING = "downloading"
    MEASURING = "measuring"
    TRYING = "trying"
    ACCEPTED = "accepted"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


_LAST_STAGES: Final = (Stage.ACCEPTED, Stage.ROLLED_BACK, Stage.REFUSED)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the guesses of a drafter.

    Attributes:
        num_tokens: of the answers.
        num_accepted: drafted tokens that became text.
        num_judged: positions at which the target said what it thinks of a draft.
    """

    num_tokens: int = 0
    num_accepted: int = 0
    num_judged: int = 0

    @property
    def acceptance(self) -> float:
        """The share of the judged guesses that was right; 0 where nothing was guessed."""
        return self.num_accepted / self.num_judged if self.num_judged else 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.num_tokens + other.num_tokens,
            self.num_accepted + other.num_accepted,
            self.num_judged + other.num_judged,
        )

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(
            self.num_tokens - other.num_tokens,
            self.num_accepted - other.num_accepted,
            self.num_judged - other.num_judged,
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """A drafter that the operator offers.

    Attributes:
        revision: grows with each offer.
        name: of the drafter, fit for the model store.
        uri: where it is, as a .tar.
        sha256: of the .tar.
        signature: of the operator, in base64.
        trial_tokens: so many tokens of answers are compared.
        margin: by how much the acceptance may be worse than before.
    """

    revision: int
    name: str
    uri: str
    sha256: str
    signature: str
    trial_tokens: int = DEFAULT_TRIAL_TOKENS
    margin: float = DEFAULT_MARGIN

    @property
    def bundle(self) -> str:
        """Its name in the model store: another content has another name."""
        return f"{self.name}-{self.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a device has got with an offer.

    Attributes:
        offer: what is rolled out.
        own: the device's own `edge.bundle`, for which this stands in.
        fallback: the bundle in use before it.
        stage: how far it is.
        reason: why, in a sentence.
        before: what is known of the fallback; None: not yet enough.
        trial: what is known of the new one.
        num_starts: how often the daemon was started in the trial since that got further.
    """

    offer: Offer
    own: str
    fallback: str
    stage: Stage = Stage.DOWNLOADING
    reason: str = ""
    before: Tally | None = None
    trial: Tally = field(default_factory=Tally)
    num_starts: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.stage in _LAST_STAGES

    @property
    def bundle_in_use(self) -> str:
        """The bundle that shall draft."""
        is_new = self.stage in (Stage.TRYING, Stage.ACCEPTED)
        return self.offer.bundle if is_new else self.fallback

    def installed(self) -> "Rollout":
        """The bundle is in the store, and is what it should be."""
        return replace(self, stage=Stage.MEASURING)

    def begin_trial(self, before: Tally) -> "Rollout":
        """Enough is known of the old drafter: the new one takes its place."""
        return replace(self, stage=Stage.TRYING, before=before)

    def tried(self, trial: Tally) -> "Rollout":
        """More is known of the new drafter; once that is enough, it is judged."""
        if trial == self.trial:
            return self
        further = replace(self, trial=trial, num_starts=0)
        return further.judged() if trial.num_tokens >= self.offer.trial_tokens else further

    def judged(self) -> "Rollout":
        """Accepted, unless its acceptance is worse than that of the old one by the margin."""
        old = self.before.acceptance if self.before else 0.0
        new, margin = self.trial.acceptance, self.offer.margin
        figures = f"{new:.3f} against {old:.3f} before, over {self.trial.num_tokens} tokens"
        if new < old - margin:
            reason = f"Its acceptance was {figures}: worse by more than {margin:g}."
            return replace(self, stage=Stage.ROLLED_BACK, reason=reason)
        return replace(self, stage=Stage.ACCEPTED, reason=f"Its acceptance was {figures}.")

    def restarted(self) -> "Rollout":
        """The daemon was started again. What was known before is still known."""
        if self.stage is not Stage.TRYING:
            return self
        again = replace(self, num_starts=self.num_starts + 1)
        if again.num_starts < MOST_STARTS:
            return again
        reason = f"The daemon ended {MOST_STARTS} times in the trial before an answer was complete."
        return again.ended(reason)

    def ended(self, reason: str) -> "Rollout":
        """It goes no further: rolled back if it was in use, refused if not."""
        stage = Stage.ROLLED_BACK if self.stage is Stage.TRYING else Stage.REFUSED
        return replace(self, stage=stage, reason=reason)
