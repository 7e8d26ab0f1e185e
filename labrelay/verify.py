"""`labrelay verify FILE`: checks a certificate of completeness, offline.

Exit status: 0 genuine, final and complete; 1 not shown to be genuine (`cryptography` not being there included); 2 wrong
usage; 3 genuine, but not final or with something unexplained.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from shared.canonical import canonical_json, parse_strictly
from shared.errors import ConfigurationError, LabrelayError

FILE_BYTES_MAX = 64 * 1024 * 1024
EXIT_INCOMPLETE = 3
_FORMAT = "labrelay certificate 1"
_SIGNATURE_FIELDS = {"algorithm", "key_id", "public_key", "value"}


class NotGenuine(LabrelayError):
    """The file is no certificate, or not as it was signed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns: the exit status. Raises: NotGenuine, LabrelayError, ConfigurationError."""
    options = _parser().parse_args(argv)
    key = None if options.key is None else load_key(_read(options.key))
    document = verify(_read(options.file), key)
    if options.json:
        json.dump(document["certificate"], sys.stdout, indent=2)
        print()
    else:
        print(summary(document, key_given=key is not None))
    return 0 if is_complete(document["certificate"]) else EXIT_INCOMPLETE


def verify(content: bytes, key: Ed25519PublicKey | None = None) -> dict[str, Any]:
    """A certificate with its signature, if it is as it was signed.

    Args:
        key: whose signature it must be; None believes the key that comes with it.

    Raises: NotGenuine.
    """
    certificate, signature = _taken_apart(content)
    public = _decoded(signature, "public_key")
    if hashlib.sha256(public).hexdigest()[:16] != signature["key_id"]:
        raise NotGenuine("the key that comes with it is not the one that the signature names")
    if key is not None and key.public_bytes(Encoding.Raw, PublicFormat.Raw) != public:
        raise NotGenuine(f"it was signed with another key ({signature['key_id']}) than the one given")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(_decoded(signature, "value"), canonical_json(certificate))
    except (InvalidSignature, ValueError):
        raise NotGenuine("the certificate is not as it was signed: something in it was changed") from None
    if certificate.get("format") != _FORMAT:
        raise NotGenuine(f"its signature is good, but this is no {_FORMAT!r}; a newer labrelay may know it")
    return {"certificate": certificate, "signature": signature}


def load_key(content: bytes) -> Ed25519PublicKey:
    """A public key as PEM, or as `GET /api/v1/certificate-key` answers it. Raises: ConfigurationError."""
    try:
        if content.lstrip().startswith(b"{"):
            content = str(parse_strictly(content)["pem"]).encode()
        key = load_pem_public_key(content)
    except (ValueError, KeyError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError("the key is neither PEM nor what a hub's /api/v1/certificate-key answers") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("the key is another than one of Ed25519")
    return key


def is_complete(certificate: dict[str, Any]) -> bool:
    """Whether it is final, and nothing is unexplained."""
    totals = certificate["totals"]
    loose = totals["unexplained_readings"] + totals["unexplained_batches"]
    return bool(certificate["state"] == "final" and not loose)


def summary(document: dict[str, Any], *, key_given: bool) -> str:
    """What somebody wants to know who was handed the file."""
    certificate, signature = document["certificate"], document["signature"]
    session, totals = certificate["session"], certificate["totals"]
    agents, posts = totals["agents"], totals["posts"]
    trust = "" if key_given else " (which came with the file: compare it with the hub's own, or give --key)"
    number = f", version {certificate['version']}" if certificate["version"] else ""
    lines = [
        f"genuine     signed with key {signature['key_id']}{trust}",
        f"state       {certificate['state']}{number}, made {certificate['made_at']} by {certificate['hub']}",
        f"session     {session['project_name']} / {session['experiment_name']} / {session['run_name']}, "
        f"session {session['ordinal_number']}, {session['status']}",
        f"time        {session['started_at']} to {session['stopped_at'] or 'now'}",
        f"agents      {_tally(agents)}",
        f"posts       {_tally(posts)}",
        f"missing     {totals['missing']} with a cause, and {totals['missing_uncounted']} gaps without a count",
        f"dropped     {totals['dropped_by_retention']} by retention",
        f"unexplained {totals['unexplained_readings']} readings, {totals['unexplained_batches']} batches",
    ]
    lines += [f"waits       {one['agent_name'] or 'somebody'}: {one['detail']}" for one in certificate["waits"]]
    return "\n".join(lines)


def _tally(tally: dict[str, Any]) -> str:
    aside = sum(tally["set_aside"].values())
    return (
        f"{tally['taken']} taken = {tally['stored']} stored ({tally['held']} held) + {tally['repeated']} repeated "
        f"+ {aside} set aside"
    )


def _taken_apart(content: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        document = parse_strictly(content)
    except ValueError as error:
        raise NotGenuine(f"not a certificate: {error}") from None
    if not isinstance(document, dict) or document.keys() != {"certificate", "signature"}:
        raise NotGenuine("not a certificate: it holds a `certificate` and its `signature`, and nothing else")
    certificate, signature = document["certificate"], document["signature"]
    if not isinstance(certificate, dict) or not isinstance(signature, dict):
        raise NotGenuine("not a certificate: `certificate` and `signature` are objects")
    if signature.keys() != _SIGNATURE_FIELDS or not all(isinstance(one, str) for one in signature.values()):
        raise NotGenuine(f"the signature has these fields as text: {', '.join(sorted(_SIGNATURE_FIELDS))}")
    if signature["algorithm"] != "Ed25519":
        raise NotGenuine("it is signed by another method than Ed25519")
    return certificate, signature


def _decoded(signature: dict[str, str], name: str) -> bytes:
    """Base64 in the one way it can be written: otherwise a digit could change and mean the same."""
    try:
        decoded = base64.b64decode(signature[name], validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded or base64.b64encode(decoded).decode() != signature[name]:
        raise NotGenuine(f"the signature's {name} is not base64")
    return decoded


def _read(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            content = source.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise LabrelayError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise NotGenuine(f"{file} has more than {FILE_BYTES_MAX >> 20} MiB, no certificate has")
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labrelay verify", description="Check a certificate of completeness, offline."
    )
    parser.add_argument("file", metavar="FILE", help="the certificate as JSON; - for stdin")
    parser.add_argument(
        "--key", metavar="FILE", help="the hub's public key: PEM, or a saved answer of its /api/v1/certificate-key"
    )
    parser.add_argument("--json", action="store_true", help="print what was signed, if it is genuine")
    return parser
