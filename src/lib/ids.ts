/**
 * Identifiers: a prefix that names the type, then 26 characters that sort by creation time. They
 * have the layout of a ULID: 48 bits of milliseconds and 80 random bits, in lower-case Crockford
 * base 32.
 */
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const randomBytesPerId = 10;

/**
 * Returns a new id such as `set_01jd…`. It sorts after every id of an earlier millisecond. Its last
 * 80 bits cannot be guessed.
 */
export function newId<P extends string>(prefix: P): `${P}_${string}` {
  return newIds(prefix, 1)[0] as `${P}_${string}`;
}

/** Returns `count` ids of one millisecond. */
export function newIds<P extends string>(prefix: P, count: number): `${P}_${string}`[] {
  const time = encodeTime(Date.now());
  const ids: `${P}_${string}`[] = [];
  for (let i = 0; i < count; i++) ids.push(`${prefix}_${time}${takeRandom()}`);
  return ids;
}

/** Ids that one call to the random source serves: a call costs as much as many ids. */
const idsPerCall = 400;
/** Allocated at the first id: a module must not call the random source on Workers. */
let random: Uint8Array<ArrayBuffer> | undefined;
let used = 0;

/** Each byte serves one id only. */
function takeRandom(): string {
  if (!random || used === random.length) {
    random ??= new Uint8Array(idsPerCall * randomBytesPerId);
    crypto.getRandomValues(random);
    used = 0;
  }
  const text = encodeRandom(random, used);
  used += randomBytesPerId;
  return text;
}

function encodeTime(epochMs: number): string {
  let rest = epochMs;
  let text = "";
  for (let i = 0; i < 10; i++) {
    text = alphabet.charAt(rest % 32) + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

/** 10 bytes as 16 characters of 5 bits. */
function encodeRandom(bytes: Uint8Array, offset: number): string {
  let text = "";
  let buffer = 0;
  let bits = 0;
  for (let i = 0; i < randomBytesPerId; i++) {
    buffer = (buffer << 8) | (bytes[offset + i] ?? 0);
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet.charAt((buffer >> bits) & 31);
    }
    buffer &= (1 << bits) - 1;
  }
  return text;
}
