import type { Bitmap } from "./bitmap.ts";
import type { CapacityIndex } from "./capacity-index.ts";

export interface Walk {
  /** The lowest bucket that may have enough capacity. */
  fromBucket: number;
  order: "fullest" | "emptiest";
  /** The walk visits only hosts in both bitmaps. */
  mask: Bitmap;
  notFull: Bitmap;
  /**
   * For each bucket, the insertions of the index when a walk found no host of `notFull` in it; -1
   * at first. The walk skips the bucket until its next insertion. An array belongs to one index and
   * one `notFull`, whose bits are only cleared.
   */
  emptySince: Float64Array;
}

/**
 * Visits hosts by their capacity in one dimension: bucket by bucket, and by rank within a bucket.
 * Ends when `visit` returns true.
 */
export function walkHosts(
  index: CapacityIndex,
  walk: Walk,
  visit: (rank: number) => boolean,
): void {
  const { fromBucket } = walk;
  const firstWord = fromBucket >>> 5;
  if (walk.order === "fullest") {
    for (let word = firstWord; word < index.occupied.length; word++) {
      let bits = index.occupied[word] as number;
      if (word === firstWord) bits &= -1 << (fromBucket & 31);
      for (; bits !== 0; bits &= bits - 1) {
        if (walkBucket(index, word * 32 + 31 - Math.clz32(bits & -bits), walk, visit)) return;
      }
    }
    return;
  }
  for (let word = index.occupied.length - 1; word >= firstWord; word--) {
    let bits = index.occupied[word] as number;
    if (word === firstWord) bits &= -1 << (fromBucket & 31);
    while (bits !== 0) {
      const highest = 31 - Math.clz32(bits);
      if (walkBucket(index, word * 32 + highest, walk, visit)) return;
      bits &= ~(1 << highest);
    }
  }
}

/** True after `visit` has returned true. */
function walkBucket(
  index: CapacityIndex,
  bucket: number,
  { mask, notFull, emptySince }: Walk,
  visit: (rank: number) => boolean,
): boolean {
  if ((emptySince[bucket] as number) >= (index.lastInsertion[bucket] as number)) return false;
  const { words, summary } = index.bucket(bucket);
  let seen = 0;
  for (let s = 0; s < summary.length; s++) {
    for (let wordBits = summary[s] as number; wordBits !== 0; wordBits &= wordBits - 1) {
      const word = s * 32 + 31 - Math.clz32(wordBits & -wordBits);
      const candidates = (words[word] as number) & (notFull[word] as number);
      seen |= candidates;
      for (let bits = candidates & (mask[word] as number); bits !== 0; bits &= bits - 1) {
        if (visit(word * 32 + 31 - Math.clz32(bits & -bits))) return true;
      }
    }
  }
  if (seen === 0) emptySince[bucket] = index.insertions;
  return false;
}
