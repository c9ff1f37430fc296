// Decrypts payloads of events as docs/encryption.md describes.

import { base64url, compactDecrypt } from "jose";

// The keys of a keyring, by their names.
export function readKeyring(text) {
  return new Map(JSON.parse(text).keys.map((key) => [key.kid, key]));
}

// The event with its payload in the clear.
export async function opened(event, headers, keys) {
  const encryption = headers["content-encryption"]?.toString();
  if (encryption === undefined) return event;
  if (encryption !== "jwe") throw new Error(`content-encryption ${encryption} is not known`);
  const open = (path, jwe) => openValue(event, keys, path, jwe);
  const fields = headers["encrypted-fields"];
  if (fields === undefined) {
    return { ...event, payload: await open("payload", event.payload) };
  }
  for (const field of JSON.parse(fields)) {
    await replace(event, field.split("."), [], open);
  }
  return event;
}

// Puts what `open` makes of it in the place of each value that the path leads to.
async function replace(parent, [name, ...rest], before, open) {
  const names = name === "*" ? parent.keys() : [name];
  for (const each of names) {
    const path = [...before, each];
    if (rest.length > 0) await replace(parent[each], rest, path, open);
    else parent[each] = await open(path.join("."), parent[each]);
  }
}

// The value that a JWE stands for, if it was encrypted for this event and this place.
async function openValue(event, keys, path, jwe) {
  const { plaintext, protectedHeader: header } = await compactDecrypt(
    jwe,
    ({ kid, alg }) => {
      const key = keys.get(kid);
      if (key === undefined) throw new Error(`there is no key ${kid}`);
      // A key is used in one way only, whatever a ciphertext says.
      if (key.alg !== alg) throw new Error(`key ${kid} is for ${key.alg}, not for ${alg}`);
      return base64url.decode(key.k);
    },
    {
      keyManagementAlgorithms: ["A256KW", "dir"],
      contentEncryptionAlgorithms: ["A256GCM"],
    },
  );
  const found = [header.eventId, header.eventType, header.path];
  const expected = [event.eventId, event.type, path];
  if (expected.some((value, at) => value !== found[at])) {
    throw new Error(`${path} was encrypted for another place: ${found}`);
  }
  return JSON.parse(new TextDecoder().decode(plaintext));
}
