import type { Bitmap } from "./bitmap.ts";
import type { RoomIndex } from "./room-index.ts";

export interface Walk {
  /** The lowest bucket that may hold enough room. */
  fromBucket: number;
  order: "fullest" | "emptiest";
  /** Only hosts of both are visited. */
  mask: Bitmap;
  roomy: Bitmap;
  /**
   * By bucket, how many insertions the index had seen when the bucket was found to hold no roomy host: until the next insertion
   * into it the walk passes over it. For one index and one `roomy`, of which bits are only ever cleared; at first all -1.
   */
  emptySince: Float64Array;
}

/**
 * Walks hosts by their room in one dimension, bucket by bucket and within a bucket by rank, until `visit` says that it has seen enough.
 */
export function walkHosts(index: RoomIndex, walk: Walk, visit: (rank: number) => boolean): void {
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

/** True when `visit` has seen enough. */
function walkBucket(
  index: RoomIndex,
  bucket: number,
  { mask, roomy, emptySince }: Walk,
  visit: (rank: number) => boolean,
): boolean {
  if ((emptySince[bucket] as number) >= (index.lastInsertion[bucket] as number)) return false;
  const { words, summary } = index.bucket(bucket);
  let seen = 0;
  for (let s = 0; s < summary.length; s++) {
    for (let wordBits = summary[s] as number; wordBits !== 0; wordBits &= wordBits - 1) {
      const word = s * 32 + 31 - Math.clz32(wordBits & -wordBits);
      const candidates = (words[word] as number) & (roomy[word] as number);
      seen |= candidates;
      for (let bits = candidates & (mask[word] as number); bits !== 0; bits &= bits - 1) {
        if (visit(word * 32 + 31 - Math.clz32(bits & -bits))) return true;
      }
    }
  }
  if (seen === 0) emptySince[bucket] = index.insertions;
  return false;
}
