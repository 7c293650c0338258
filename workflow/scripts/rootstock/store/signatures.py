"""Ed25519 signatures of models in a store that others can write too, with the package cryptography. Off by default.

Whoever replaces a model can replace the checksum beside it. A signature needs a key that only its owner has.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..study.problems import Refusal

SIGNATURE = "signature"
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out private.pem"


def private_key(path: str) -> Any:
    """The key of `run.sign_with`, read before any training, so that a wrong key costs none."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _key(path, "sign_with", lambda pem: load_pem_private_key(pem, password=None), Ed25519PrivateKey)


def signed(metadata: dict[str, Any], key: Any) -> dict[str, Any]:
    """The metadata with a signature of all their content, which includes the model's sha256."""
    return metadata | {SIGNATURE: key.sign(_payload(metadata)).hex()}


def require_signature(metadata: dict[str, Any], path: str, name: str, why: str = "") -> None:
    """Raise `Refusal` unless the key of `run.trust` verifies the signature. `why` is the reason that one is needed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _key(path, "trust", load_pem_public_key, Ed25519PublicKey)
    try:
        key.verify(bytes.fromhex(metadata[SIGNATURE]), _payload(metadata))
    except KeyError:
        asks = f"run.trust: {path} asks for that" + (f", for {why}" if why else "")
        raise Refusal(f"{name}: is not signed; {asks}; forget it and train it again") from None
    except (InvalidSignature, ValueError, TypeError):
        raise Refusal(
            f"{name}: is not signed by the owner of run.trust: {path}; do not use it, ask who wrote it"
        ) from None


def _payload(metadata: dict[str, Any]) -> bytes:
    """The bytes that are signed: the metadata as they are after writing and reading."""
    read = json.loads(json.dumps({name: value for name, value in metadata.items() if name != SIGNATURE}))
    return json.dumps(read, sort_keys=True).encode()


def _key(path: str, flag: str, load: Callable[[bytes], Any], kind: type) -> Any:
    try:
        key = load(Path(path).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise Refusal(f"run.{flag}: {path} is no key that can be read ({reason}); make one: {MAKE_KEY}") from None
    if not isinstance(key, kind):
        raise Refusal(f"run.{flag}: {path} is no Ed25519 key of this kind; make one: {MAKE_KEY}")
    return key
