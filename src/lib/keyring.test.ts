import { inspect } from "node:util";
import { expect, it } from "vitest";
import { Keyring, isEncryptionKey, newEncryptionKey } from "./keyring.ts";
import { Secret } from "./secret.ts";

const newKey = () => new Secret(newEncryptionKey());

it("decrypts its own text, and stores neither text nor key", async () => {
  const key = newKey();
  const keyring = new Keyring([key]);
  const sealed = await keyring.encrypt("pa$$wörd", "row 1");
  expect(await keyring.decrypt(sealed, "row 1")).toBe("pa$$wörd");
  expect(sealed.keyId).toBe(keyring.keyId);
  const stored = Buffer.from(sealed.ciphertext, "base64").toString("latin1") + sealed.keyId;
  for (const secret of ["pa$$w", key.reveal()]) expect(stored).not.toContain(secret);
  expect(inspect(keyring, { depth: 9, showHidden: true })).not.toContain(key.reveal());
  expect(JSON.stringify(keyring)).toBe("{}");
});

it("encrypts equal texts differently each time", async () => {
  const keyring = new Keyring([newKey()]);
  const sealed = await Promise.all([1, 2].map(() => keyring.encrypt("x", "row")));
  expect(new Set(sealed.map(({ ciphertext }) => ciphertext)).size).toBe(2);
});

it("decrypts with each key, and encrypts with the first", async () => {
  const [first, second] = [newKey(), newKey()];
  const sealed = await new Keyring([first]).encrypt("x", "row");
  const rotated = new Keyring([second, first]);
  expect(await rotated.decrypt(sealed, "row")).toBe("x");
  const again = await rotated.encrypt("x", "row");
  expect(again.keyId).not.toBe(sealed.keyId);
  expect(await new Keyring([second]).decrypt(again, "row")).toBe("x");
});

it("does not decrypt without the key, with other data, or after a change", async () => {
  const keyring = new Keyring([newKey()]);
  const sealed = await keyring.encrypt("x", "row 1");
  expect(await new Keyring([newKey()]).decrypt(sealed, "row 1")).toBeUndefined();
  expect(await keyring.decrypt(sealed, "row 2")).toBeUndefined();
  const bytes = Buffer.from(sealed.ciphertext, "base64");
  bytes[14] = (bytes[14] ?? 0) ^ 1;
  for (const ciphertext of [bytes.toString("base64"), "", "no base64"])
    expect(await keyring.decrypt({ ...sealed, ciphertext }, "row 1")).toBeUndefined();
});

it.each([
  ["as openssl prints it", newEncryptionKey(), true],
  ["empty", "", false],
  ["no base64 of a whole number of bytes", "x".repeat(44), false],
  ["too short", Buffer.alloc(31).toString("base64"), false],
  ["followed by a space", `${newEncryptionKey()} `, false],
])("recognizes a key that is %s", (_form, text, isValid) => {
  expect(isEncryptionKey(text)).toBe(isValid);
});
