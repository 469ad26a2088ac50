"""The SDK's faults in our words: what failed, where, what to do, and whether a retry helps."""

from __future__ import annotations

from http import HTTPStatus

from keystoneauth1 import exceptions as auth
from openstack import exceptions as sdk

from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError

FAULTS = (sdk.SDKException, auth.ClientException)
"""All that the SDK raises."""


def translate(fault: Exception, *, where: str, doing: str) -> MtvError:
    """Return the error to raise. `where` names the connection, `doing` what was asked ("stop web-1")."""
    if isinstance(fault, auth.SSLError):
        return ConnectionRefused(
            f"{where}: the certificate is not trusted, or TLS failed",
            cure="set extra.ca_file to the PEM of its authority",
            code="CertificateUntrusted",
        )
    if isinstance(fault, auth.Unauthorized):
        return ConnectionRefused(
            f"{where} refused the login",
            cure="mend user and password, domains and project, or the application credential of the connection",
            code="LoginRefused",
        )
    status = getattr(fault, "status_code", None) or getattr(fault, "http_status", None) or 0
    said = f"{where}: cannot {doing}: {_text(fault)}"
    if status == HTTPStatus.FORBIDDEN:
        return ConnectionRefused(said, cure="give the user the role for it in the project", code="PrivilegeMissing")
    if status == HTTPStatus.NOT_FOUND:
        return PermanentError(said, cure="take the inventory again", code="ObjectGone")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # cinder's and glance's word for a quota that is used up
        cure = "raise the project's quota, or lower max_vms_in_flight"
        return TemporaryError(said, cure=cure, code="QuotaExceeded")
    if status == HTTPStatus.CONFLICT:
        return TemporaryError(said, code="ObjectBusy")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return TemporaryError(said, code="Busy")
    if isinstance(fault, auth.ConnectionError):
        return TemporaryError(f"{where} does not answer: cannot {doing}", code="Unreachable")
    if isinstance(fault, sdk.ServiceDisabledException | auth.EndpointNotFound):
        return PermanentError(said, cure="see the service catalog, region and interface", code="ServiceMissing")
    if isinstance(fault, auth.DiscoveryFailure):
        return PermanentError(said, cure="mend the auth URL of the connection", code="NotKeystone")
    return PermanentError(said, code=type(fault).__name__)


def _text(fault: Exception) -> str:
    return str(getattr(fault, "details", None) or fault).strip()[:500] or type(fault).__name__
