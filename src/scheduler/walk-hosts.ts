import type { Bitmap } from "./bitmap.ts";
import type { RoomIndex } from "./room-index.ts";

/**
 * Walks hosts by their room in one dimension, bucket by bucket and within a bucket by rank, until `visit` says that it has seen enough.
 * Only hosts whose bit is in both `mask` and `mask2` are visited. `fromBucket` is the lowest bucket that may hold enough room.
 */
export function walkHosts(
  index: RoomIndex,
  options: { fromBucket: number; order: "fullest" | "emptiest"; mask: Bitmap; mask2: Bitmap },
  visit: (rank: number) => boolean,
): void {
  const { fromBucket, mask, mask2 } = options;
  if (options.order === "fullest") {
    for (let word = fromBucket >>> 5; word < index.occupied.length; word++) {
      let bits = index.occupied[word] as number;
      if (word === fromBucket >>> 5) bits &= -1 << (fromBucket & 31);
      for (; bits !== 0; bits &= bits - 1) {
        if (walkBucket(index, word * 32 + 31 - Math.clz32(bits & -bits), mask, mask2, visit))
          return;
      }
    }
    return;
  }
  for (let word = index.occupied.length - 1; word >= fromBucket >>> 5; word--) {
    let bits = index.occupied[word] as number;
    if (word === fromBucket >>> 5) bits &= -1 << (fromBucket & 31);
    while (bits !== 0) {
      const highest = 31 - Math.clz32(bits);
      if (walkBucket(index, word * 32 + highest, mask, mask2, visit)) return;
      bits &= ~(1 << highest);
    }
  }
}

/** True when `visit` has seen enough. */
function walkBucket(
  index: RoomIndex,
  bucket: number,
  mask: Bitmap,
  mask2: Bitmap,
  visit: (rank: number) => boolean,
): boolean {
  const { words, summary } = index.bucket(bucket);
  for (let s = 0; s < summary.length; s++) {
    for (let wordBits = summary[s] as number; wordBits !== 0; wordBits &= wordBits - 1) {
      const word = s * 32 + 31 - Math.clz32(wordBits & -wordBits);
      for (
        let bits = (words[word] as number) & (mask[word] as number) & (mask2[word] as number);
        bits !== 0;
        bits &= bits - 1
      ) {
        if (visit(word * 32 + 31 - Math.clz32(bits & -bits))) return true;
      }
    }
  }
  return false;
}
