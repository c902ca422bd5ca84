const initialBytes = 12;
/** Longer texts are compressed. A process of the previous release opens shorter ones. */
const UNCOMPRESSED_BYTES_MAX = 2_048;
/** The first bytes of gzip. The sealed texts are JSON, which never begins with them. */
const gzipMagic = [0x1f, 0x8b] as const;

/**
 * Encrypts text with AES-256-GCM. Decryption needs the same bearer secret and the same
 * Idempotency-Key; the database has only the hash of the secret. The secret has 256 random bits, so
 * one hash suffices to derive the key. It compresses long text first, as a stored template shrinks
 * to a small part.
 */
export async function seal(text: string, secret: string, key: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(initialBytes));
  const sealed = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv },
    await importKey(secret, key),
    await compress(new TextEncoder().encode(text)),
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
    const opened = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv },
      await importKey(secret, key),
      bytes.subarray(initialBytes),
    );
    return await decompress(new Uint8Array(opened));
  } catch (error) {
    if (error instanceof Error && error.name === "OperationError") return undefined;
    throw error;
  }
}

async function compress(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes.length <= UNCOMPRESSED_BYTES_MAX) return bytes;
  const compressed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(compressed).arrayBuffer());
}

async function decompress(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (gzipMagic.some((byte, index) => bytes[index] !== byte))
    return new TextDecoder().decode(bytes);
  const text = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(text).text();
}

async function importKey(secret: string, key: string) {
  const material = new TextEncoder().encode(`berth-idempotency\0${secret}\0${key}`);
  const digest = await crypto.subtle.digest("SHA-256", material);
  return crypto.subtle.importKey("raw", digest, "AES-GCM", false, ["encrypt", "decrypt"]);
}
