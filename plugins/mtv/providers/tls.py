"""TLS towards a source: verified by default, by CA or by a pinned certificate; unverified only on demand."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from mtv.model.connection import Connection
from mtv.model.errors import ConnectionRefused, PermanentError, TemporaryError

CONNECT_TIMEOUT_S = 30.0


def verified_context(connection: Connection, host: str, port: int) -> ssl.SSLContext:
    """Return the context for all further traffic with `host`, after one handshake that proves it works.

    The connection's extra decides: `ca_pem` or `ca_file`, else `thumbprint` (sha256 of the certificate, hex, colons
    allowed), else the system's authorities. `insecure: true` switches verification off and excludes the others.
    Raises `ConnectionRefused` for a certificate we must not trust, `TemporaryError` when nobody answers.
    """
    context = _context(connection, host, port)
    _handshake(connection, host, port, context)
    return context


def trusted_pem(connection: Connection, host: str, port: int) -> str:
    """Return whom a client may trust that takes PEM files only, after the same handshake as `verified_context`.

    The connection's authorities, or the pinned certificate itself; "" stands for the system's authorities, and for
    nobody's when the connection is insecure. Raises as `verified_context` does.
    """
    verified_context(connection, host, port)
    pin = thumbprint(connection)
    if pin and not is_insecure(connection) and not ca_pem(connection):
        return ssl.DER_cert_to_PEM_cert(_pinned_certificate(connection, host, port, pin))
    return ca_pem(connection)


def ca_pem(connection: Connection) -> str:
    """Return the PEM of the connection's authorities, "" when it names none."""
    pem = connection.extra.get("ca_pem") or ""
    path = connection.extra.get("ca_file") or ""
    if path and not pem:
        try:
            pem = Path(path).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(
                f"connection {connection.conn_id!r}: the CA file {path} cannot be read: {_why(error)}",
                cure="name a readable PEM file in extra.ca_file",
                code="CaFileUnreadable",
            ) from error
    return str(pem)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is no PEM file"


def with_authority(connection: Connection, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a mover's Secret, with ca.pem when the connection names authorities."""
    pem = ca_pem(connection)
    return {**files, "ca.pem": pem} if pem else dict(files)


def thumbprint(connection: Connection) -> str:
    """Return the pinned sha256 as 64 lower-case hex digits, "" when there is none."""
    text = str(connection.extra.get("thumbprint") or "").replace(":", "").replace(" ", "").lower()
    if text and (len(text) != 64 or set(text) - set("0123456789abcdef")):
        raise PermanentError(
            f"connection {connection.conn_id!r}: extra.thumbprint is not a sha256 in hex",
            cure="openssl x509 -noout -fingerprint -sha256 -in server.pem",
            code="ThumbprintMalformed",
        )
    return text


def is_insecure(connection: Connection) -> bool:
    """Say whether the connection asks for unverified TLS; only a real `true` does."""
    return connection.extra.get("insecure") is True


def _context(connection: Connection, host: str, port: int) -> ssl.SSLContext:
    pem, pin = ca_pem(connection), thumbprint(connection)
    if is_insecure(connection):
        if pem or pin:
            raise PermanentError(
                f"connection {connection.conn_id!r} is insecure and names a certificate too",
                cure="remove extra.insecure, or the certificate",
                code="TlsContradiction",
            )
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if pem:
        try:
            context = ssl.create_default_context(cadata=pem)
        except (ssl.SSLError, ValueError) as error:
            raise PermanentError(
                f"connection {connection.conn_id!r}: its CA is not a PEM certificate",
                cure="set extra.ca_file to a file, or extra.ca_pem to a text, with -----BEGIN CERTIFICATE----- in it",
                code="CaMalformed",
            ) from error
        # Python 3.13 also asks for extensions that certificates made by vCenter and by hand often lack; whom we
        # trust is said by the connection, so the chain, the name and the dates are what counts.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
    if pin:
        return _pinned(connection, host, port, pin)
    return ssl.create_default_context()


def _pinned(connection: Connection, host: str, port: int, pin: str) -> ssl.SSLContext:
    """Trust exactly the certificate that the pin names."""
    der = _pinned_certificate(connection, host, port, pin)
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(der))
    context.check_hostname = False  # the pin names the one certificate, whatever name it carries
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _pinned_certificate(connection: Connection, host: str, port: int, pin: str) -> bytes:
    """Fetch the certificate once and compare its digest."""
    probe = ssl.create_default_context()
    probe.check_hostname = False
    probe.verify_mode = ssl.CERT_NONE  # the digest is compared below, before anything is sent
    der = _handshake(connection, host, port, probe)
    seen = hashlib.sha256(der).hexdigest()
    if not hmac.compare_digest(seen, pin):
        raise ConnectionRefused(
            f"{host}:{port} (connection {connection.conn_id!r}) shows a certificate with sha256 {seen},"
            f" not the pinned {pin}",
            cure="find out why the certificate changed before you pin the new one",
            code="ThumbprintMismatch",
        )
    return der


def _handshake(connection: Connection, host: str, port: int, context: ssl.SSLContext) -> bytes:
    where = f"{host}:{port} (connection {connection.conn_id!r})"
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        raise ConnectionRefused(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            cure="set extra.ca_file to the PEM of its authority, or extra.thumbprint to its sha256",
            code="CertificateUntrusted",
        ) from error
    except ssl.SSLError as error:
        raise ConnectionRefused(f"{where} does not speak TLS as we do: {error.reason}", code="TlsFailed") from error
    except socket.gaierror as error:
        cure = "write the host's name alone, without https:// and path" if "/" in host else "mend the connection's host"
        raise PermanentError(f"the host name of {where} does not resolve", cure=cure, code="HostUnknown") from error
    except OSError as error:
        raise TemporaryError(f"{where} does not answer: {error}", code="Unreachable") from error
