import { expect, it } from "vitest";
import { openSealed, seal } from "./seal.ts";

it("decrypts text with the same secret and key", async () => {
  const sealed = await seal("the answer", "secret", "key");
  expect(await openSealed(sealed, "secret", "key")).toBe("the answer");
});

it("decrypts nothing with another secret or another key", async () => {
  const sealed = await seal("the answer", "secret", "key");
  expect(await openSealed(sealed, "other", "key")).toBeUndefined();
  expect(await openSealed(sealed, "secret", "other")).toBeUndefined();
  expect(await openSealed(sealed, "secre", "tkey")).toBeUndefined();
});

it("rejects altered ciphertext", async () => {
  const bytes = Buffer.from(await seal("the answer", "secret", "key"), "base64");
  bytes[14] = (bytes[14] ?? 0) ^ 1;
  expect(await openSealed(bytes.toString("base64"), "secret", "key")).toBeUndefined();
});

it("encrypts equal texts to different ciphertexts, which do not contain the text", async () => {
  const [one, other] = await Promise.all([seal("text", "s", "k"), seal("text", "s", "k")]);
  expect(one).not.toBe(other);
  expect(Buffer.from(one, "base64").toString("latin1")).not.toContain("text");
});

it("compresses a long text, and returns it unchanged", async () => {
  const template = JSON.stringify(
    Array.from({ length: 200 }, (_, index) => ({
      name: `app-${index}`,
      image: "registry/menü:42",
    })),
  );
  const sealed = await seal(template, "secret", "key");
  expect(sealed.length).toBeLessThan(template.length / 4);
  expect(await openSealed(sealed, "secret", "key")).toBe(template);
});
