const initialBytes = 12;

/**
 * Encrypts text with AES-256-GCM. Decryption needs the same bearer secret and the same
 * Idempotency-Key; the database has only the hash of the secret. The secret has 256 random bits, so
 * one hash suffices to derive the key.
 */
export async function seal(text: string, secret: string, key: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(initialBytes));
  const sealed = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv },
    await importKey(secret, key),
    new TextEncoder().encode(text),
  );
  return Buffer.concat([iv, new Uint8Array(sealed)]).toString("base64");
}

/** Decrypts text. Returns undefined for another secret or key, or for altered ciphertext. */
export async function openSealed(
  sealed: string,
  secret: string,
  key: string,
): Promise<string | undefined> {
  const bytes = Buffer.from(sealed, "base64");
  const iv = bytes.subarray(0, initialBytes);
  try {
    const text = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv },
      await importKey(secret, key),
      bytes.subarray(initialBytes),
    );
    return new TextDecoder().decode(text);
  } catch (error) {
    if (error instanceof Error && error.name === "OperationError") return undefined;
    throw error;
  }
}

async function importKey(secret: string, key: string) {
  const material = new TextEncoder().encode(`berth-idempotency\0${secret}\0${key}`);
  const digest = await crypto.subtle.digest("SHA-256", material);
  return crypto.subtle.importKey("raw", digest, "AES-GCM", false, ["encrypt", "decrypt"]);
}
