/** Splits the items, in their order, into arrays of at most `chunkItemsMax`. */
export function splitIntoChunks<T>(items: readonly T[], chunkItemsMax: number): T[][] {
  const chunks: T[][] = [];
  for (let start = 0; start < items.length; start += chunkItemsMax)
    chunks.push(items.slice(start, start + chunkItemsMax));
  return chunks;
}
