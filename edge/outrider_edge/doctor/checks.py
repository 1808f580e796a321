"""All checks of the doctor, in their order."""

from typing import Final

from outrider_edge.doctor.local_checks import LOCAL_CHECKS
from outrider_edge.doctor.other_checks import OTHER_CHECKS
from outrider_edge.doctor.security_checks import SECURITY_CHECKS
from outrider_edge.doctor.session_checks import SESSION_CHECKS
from outrider_edge.doctor.verifier_checks import VERIFIER_CHECKS

CHECKS: Final = (
    *LOCAL_CHECKS,
    *VERIFIER_CHECKS,
    *SECURITY_CHECKS,
    *SESSION_CHECKS,
    *OTHER_CHECKS,
)
