import { assert } from "../../lib/assert.ts";

/** Bits of host ranks, 32 to a word. */
export type Bitmap = Uint32Array;

export function newBitmap(bits: number): Bitmap {
  return new Uint32Array(Math.ceil(bits / 32));
}

export function setBit(bitmap: Bitmap, bit: number): void {
  bitmap[bit >>> 5] = (bitmap[bit >>> 5] as number) | (1 << (bit & 31));
}

export function clearBit(bitmap: Bitmap, bit: number): void {
  bitmap[bit >>> 5] = (bitmap[bit >>> 5] as number) & ~(1 << (bit & 31));
}

export function changeBit(bitmap: Bitmap, bit: number, isSet: boolean): void {
  if (isSet) setBit(bitmap, bit);
  else clearBit(bitmap, bit);
}

export function hasBit(bitmap: Bitmap, bit: number): boolean {
  return (((bitmap[bit >>> 5] as number) >>> (bit & 31)) & 1) === 1;
}

/** Sets in `bitmap` all bits of `others`, which is of the same length. */
export function addBits(bitmap: Bitmap, others: Bitmap): void {
  for (let word = 0; word < bitmap.length; word++)
    bitmap[word] = (bitmap[word] as number) | (others[word] as number);
}

/** The bits of `bitmap` that `excluded`, which is of the same length, does not have. */
export function withoutBits(bitmap: Bitmap, excluded: Bitmap): Bitmap {
  return bitmap.map((word, place) => word & ~(excluded[place] as number));
}

export function countBits(bitmap: Bitmap): number {
  let count = 0;
  for (const word of bitmap) for (let bits = word; bits !== 0; bits &= bits - 1) count++;
  return count;
}

/** The position of the lowest set bit of a word that is not 0. */
export function lowestBit(word: number): number {
  assert(word !== 0, "a word without bits has no lowest bit");
  return 31 - Math.clz32(word & -word);
}

export function withoutRanks(bitmap: Bitmap, ranks: readonly number[]): Bitmap {
  if (ranks.length === 0) return bitmap;
  const rest = bitmap.slice();
  for (const rank of ranks) clearBit(rest, rank);
  return rest;
}
