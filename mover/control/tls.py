"""Whom we trust: the given authority, or one certificate by its thumbprint, or (only when told so) anybody."""

from __future__ import annotations

import hashlib
import http.client
import ssl

from mover.control.endpoint import Endpoint
from mtv.model.errors import ConnectionRefused

_ALGORITHM_OF_LENGTH = {40: "sha1", 64: "sha256"}
TIMEOUT_S = 45.0
"""Longest silence on a connection before it is given up."""


def ssl_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context for connections to the endpoint. With a thumbprint the caller must check it after connecting."""
    if endpoint.insecure or endpoint.thumbprint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)


def connect(endpoint: Endpoint) -> http.client.HTTPConnection:
    """An open HTTPS connection whose other end is proven to be the endpoint (plain HTTP if the endpoint is).

    Raises OSError or `ConnectionRefused`.
    """
    if not endpoint.tls:
        plain = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=TIMEOUT_S)
        plain.connect()
        return plain
    connection = http.client.HTTPSConnection(
        endpoint.host, endpoint.port, timeout=TIMEOUT_S, context=ssl_context(endpoint)
    )
    try:
        connection.auto_open = 0  # connecting again by itself would skip the thumbprint
        connection.connect()
        _check_thumbprint(connection, endpoint)
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise certificate_refused(endpoint, error.verify_message) from error
    except BaseException:
        connection.close()
        raise
    return connection


def certificate_refused(endpoint: Endpoint, why: str) -> ConnectionRefused:
    """The error for a server that is not the one we were told to trust."""
    cure = "give the right CA certificate or thumbprint in the connection"
    if endpoint.told_by:
        cure = f"{endpoint.told_by} told that thumbprint: reconnect the host in vCenter, so that it learns the new one"
    return ConnectionRefused(
        f"the certificate of {endpoint.host}:{endpoint.port} is not trusted: {why}",
        cure=cure,
        code="source-certificate",
    )


def _check_thumbprint(connection: http.client.HTTPSConnection, endpoint: Endpoint) -> None:
    if not endpoint.thumbprint or endpoint.insecure:
        return
    expected = endpoint.thumbprint.replace(":", "").lower()
    algorithm = _ALGORITHM_OF_LENGTH.get(len(expected))
    certificate = connection.sock.getpeercert(binary_form=True)
    if algorithm is None or certificate is None:
        raise certificate_refused(endpoint, "the thumbprint is neither SHA-1 nor SHA-256")
    found = hashlib.new(algorithm, certificate, usedforsecurity=False).hexdigest()
    if found != expected:
        raise certificate_refused(endpoint, f"its thumbprint is {found}, expected {expected}")
