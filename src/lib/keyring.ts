import type { Secret } from "./secret.ts";
import { hashSecret } from "./token-hash.ts";

const KEY_BYTES = 32;
const IV_BYTES = 12;
const KEY_ID_CHARACTERS = 16;

/** A text as the database stores it, and the id of its key. */
export interface SealedText {
  keyId: string;
  /** Base64 of the random initialization vector and the ciphertext with its tag. */
  ciphertext: string;
}

/**
 * Encrypts texts for the database with AES-256-GCM. The first key encrypts, and all keys decrypt,
 * so that an operator can rotate them. It uses Web Crypto, which Cloudflare Workers have too.
 *
 * The id of a key is a part of its hash, and reveals nothing about it.
 */
export class Keyring {
  readonly #keys: ReadonlyMap<string, Secret>;
  readonly #first: { id: string; key: Secret };

  /** @param keys base64 of 32 random bytes each, at least one; see `isEncryptionKey` */
  constructor(keys: readonly [Secret, ...Secret[]]) {
    const [first] = keys;
    this.#first = { id: getKeyId(first), key: first };
    this.#keys = new Map(keys.map((key) => [getKeyId(key), key]));
  }

  /** The id of the key that encrypts. */
  get keyId(): string {
    return this.#first.id;
  }

  /**
   * Encrypts a text. The additional authenticated data names its row: the ciphertext decrypts only
   * with the same data. So the ciphertext of another row cannot replace it.
   */
  async encrypt(text: string, additionalData: string): Promise<SealedText> {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
    const sealed = await crypto.subtle.encrypt(
      toAlgorithm(iv, additionalData),
      await importKey(this.#first.key, "encrypt"),
      new TextEncoder().encode(text),
    );
    const ciphertext = Buffer.concat([iv, new Uint8Array(sealed)]).toString("base64");
    return { keyId: this.#first.id, ciphertext };
  }

  /** Decrypts a text. Returns undefined without its key, and for altered text or other data. */
  async decrypt(
    { keyId, ciphertext }: SealedText,
    additionalData: string,
  ): Promise<string | undefined> {
    const key = this.#keys.get(keyId);
    if (!key) return undefined;
    const bytes = Buffer.from(ciphertext, "base64");
    try {
      const opened = await crypto.subtle.decrypt(
        toAlgorithm(bytes.subarray(0, IV_BYTES), additionalData),
        await importKey(key, "decrypt"),
        bytes.subarray(IV_BYTES),
      );
      return new TextDecoder().decode(opened);
    } catch (error) {
      if (error instanceof Error && error.name === "OperationError") return undefined;
      throw error;
    }
  }
}

/** Whether a text is base64 of 32 bytes, as `openssl rand -base64 32` prints it. */
export function isEncryptionKey(text: string): boolean {
  const bytes = Buffer.from(text, "base64");
  return bytes.length === KEY_BYTES && bytes.toString("base64") === text;
}

/** Returns a new random key in base64. */
export function newEncryptionKey(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(KEY_BYTES))).toString("base64");
}

function getKeyId(key: Secret): string {
  return hashSecret(`berth-encryption-key\0${key.reveal()}`).slice(0, KEY_ID_CHARACTERS);
}

function toAlgorithm(iv: Uint8Array<ArrayBuffer>, additionalData: string) {
  return { name: "AES-GCM", iv, additionalData: new TextEncoder().encode(additionalData) };
}

function importKey(key: Secret, usage: "encrypt" | "decrypt") {
  const bytes = new Uint8Array(Buffer.from(key.reveal(), "base64"));
  return crypto.subtle.importKey("raw", bytes, "AES-GCM", false, [usage]);
}
