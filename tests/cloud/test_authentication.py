"""Who somebody is: by token, by certificate, by both, or not at all."""

import time

import pytest

from outrider_cloud.authentication import Authenticator, Caller, Shown
from outrider_cloud.bearer_tokens import make_token
from outrider_cloud.tenants import TenantDirectory
from outrider_common.errors import PermissionDeniedError, UnauthenticatedError

OLD, NEW, OTHER = make_token(), make_token(), make_token()
URI = "spiffe://example.org/acme"
JULY, AUGUST, SEPTEMBER = 1782864000.0, 1785542400.0, 1788220800.0


def tokens(tenant: str, *lines: str) -> str:
    return "\n".join(f"[[tenants.{tenant}.tokens]]\n{line}\n" for line in lines)


DIRECTORY = TenantDirectory.parse(
    f"""
[tenants.acme]
models = ["big"]
certificates = ["{URI}"]
max_sessions = 2

[tenants.other]
certificates = ["other.example"]

"""
    + tokens(
        "acme",
        f'id = "{OLD.token_id}"\nsha256 = "{OLD.sha256}"\nexpires = 2026-08-15T00:00:00Z',
        f'id = "{NEW.token_id}"\nsha256 = "{NEW.sha256}"\nnot_before = 2026-07-15T00:00:00Z',
    )
    + tokens("other", f'id = "{OTHER.token_id}"\nsha256 = "{OTHER.sha256}"'),
    "file",
)


def caller(shown: Shown, model: str = "big", now: float = AUGUST) -> Caller:
    return Authenticator(lambda: DIRECTORY, clock=lambda: now).authenticate(shown, model)


def test_a_token_tells_its_tenant_and_its_quotas() -> None:
    found = caller(Shown(OLD.text))
    assert found.tenant == "acme"
    assert found.quotas.max_sessions == 2
    assert found.shown == f"token {OLD.token_id}"


def test_a_token_is_never_printed() -> None:
    assert OLD.text not in repr(Shown(OLD.text))
    assert OLD.text[-43:] not in repr(caller(Shown(OLD.text)))


@pytest.mark.parametrize(
    ("now", "is_old_good", "is_new_good"),
    [(JULY, True, False), (AUGUST, True, True), (SEPTEMBER, False, True)],
)
def test_one_token_takes_over_from_another(
    now: float, is_old_good: bool, is_new_good: bool
) -> None:
    for token, is_good in ((OLD, is_old_good), (NEW, is_new_good)):
        if is_good:
            assert caller(Shown(token.text), now=now).tenant == "acme"
        else:
            with pytest.raises(UnauthenticatedError, match=token.token_id) as caught:
                caller(Shown(token.text), now=now)
            assert token.text not in str(caught.value)


@pytest.mark.parametrize(
    "token",
    ["", "nonsense", make_token().text, OLD.text[:-1] + ("A" if OLD.text[-1] != "A" else "B")],
)
def test_a_wrong_token_is_nobodys_and_is_not_repeated(token: str) -> None:
    with pytest.raises(UnauthenticatedError, match=r"edge\.token_file") as caught:
        caller(Shown(token))
    assert len(token) < 10 or token not in str(caught.value)


def test_a_wrong_token_is_refused_whatever_the_certificate_says() -> None:
    with pytest.raises(UnauthenticatedError):
        caller(Shown(make_token().text, uris=(URI,)))


def test_a_certificate_tells_its_tenant() -> None:
    assert caller(Shown(uris=(URI,))).tenant == "acme"
    assert caller(Shown(dns_names=("nobody.example", "other.example"))).tenant == "other"


def test_a_certificate_of_nobody_is_named() -> None:
    with pytest.raises(UnauthenticatedError, match=r"made out for nobody\.example"):
        caller(Shown(dns_names=("nobody.example",)))


def test_a_certificate_of_nobody_with_a_good_token_is_good() -> None:
    assert caller(Shown(OTHER.text, dns_names=("nobody.example",))).tenant == "other"


def test_token_and_certificate_of_two_tenants_are_refused() -> None:
    with pytest.raises(PermissionDeniedError, match=r"'other'.*'acme'"):
        caller(Shown(OTHER.text, uris=(URI,)))


def test_who_shows_nothing_is_told_what_to_show() -> None:
    with pytest.raises(UnauthenticatedError, match=r"edge\.token_file.*edge\.tls_certificate"):
        caller(Shown())


def test_a_tenant_has_its_own_models_only() -> None:
    with pytest.raises(PermissionDeniedError, match="'acme' may not use 'small'"):
        caller(Shown(NEW.text), model="small")
    assert caller(Shown(OTHER.text), model="small").tenant == "other"


def test_without_tenants_everybody_is_let_in_as_nobody() -> None:
    assert Authenticator(None).authenticate(Shown(make_token().text), "big") == Caller()


def test_with_certificates_alone_their_first_name_is_the_tenant() -> None:
    authenticator = Authenticator(None, needs_certificate=True, clock=time.time)
    shown = Shown(uris=(URI,), dns_names=("a.example",))
    assert authenticator.authenticate(shown, "big").tenant == URI
    assert authenticator.authenticate(Shown(dns_names=("a.example",)), "big").tenant == "a.example"
    with pytest.raises(UnauthenticatedError, match="subject alternative name"):
        authenticator.authenticate(Shown(), "big")
