"""Opens and seals payloads of events with jwcrypto, as docs/encryption.md describes."""

import json
import sys

from jwcrypto import jwe, jwk

PROFILE = {"alg": ("A256KW", "dir"), "enc": ("A256GCM",)}


def keyring(text):
    keys = json.loads(text)["keys"]
    return {key["kid"]: jwk.JWK(**key) for key in keys}


def open_value(keys, event_id, event_type, path, value):
    """The JSON value that the JWE `value` at `path` of the envelope stands for."""
    token = jwe.JWE(algs=[*PROFILE["alg"], *PROFILE["enc"]])
    token.deserialize(value)
    header = json.loads(token.objects["protected"])
    token.decrypt(keys[header["kid"]])
    bound = (header["eventId"], header["eventType"], header["path"])
    if bound != (event_id, event_type, path):
        raise ValueError(f"sealed for another place: {bound}")
    return json.loads(token.payload)


def seal_value(keys, kid, event_id, event_type, path, value):
    """The JWE that stands for the JSON value."""
    header = {
        "alg": keys[kid].get("alg"),
        "enc": "A256GCM",
        "kid": kid,
        "eventId": event_id,
        "eventType": event_type,
        "path": path,
    }
    token = jwe.JWE(json.dumps(value).encode(), protected=json.dumps(header))
    token.add_recipient(keys[kid])
    return token.serialize(compact=True)


def main():
    """One JSON document on standard input, one on standard output."""
    asked = json.load(sys.stdin)
    keys = keyring(asked["keyring"])
    place = [asked[name] for name in ("eventId", "eventType", "path")]
    try:
        if "open" in asked:
            answer = {"value": open_value(keys, *place, asked["open"])}
        else:
            answer = {"jwe": seal_value(keys, asked["kid"], *place, asked["seal"])}
    except (ValueError, KeyError, jwe.InvalidJWEData) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
