import { z } from "zod";
import { truncate } from "../../lib/text/truncate.ts";

const messageCharsMax = 500;
/** A line has less than 1 KiB. A longer one is malformed. */
const lineCharsMax = 2 ** 20;
/** An image has at most 127 layers. Lines of more layers do not count as progress. */
const layersMax = 1_000;

/** Docker has replaced `error` by `errorDetail` (API 1.48), and sends both so far. */
const progressLine = z.object({
  error: z.string().optional(),
  errorDetail: z.object({ message: z.string().optional() }).optional(),
});

/**
 * Reads the JSON lines of a pull or an import to their end. Docker answers 200 early, and reports a
 * failure in a line: the last one is returned. Calls `onProgress` for each line that differs from
 * the last one of its layer, because containerd repeats the lines of a stalled layer.
 */
export async function readProgress(
  progress: NodeJS.ReadableStream,
  onProgress: () => void = () => undefined,
): Promise<string | undefined> {
  let rest = "";
  let error: string | undefined;
  const isNews = createLineFilter();
  for await (const chunk of progress) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > lineCharsMax) throw new Error("a line of Docker's progress is too long");
    for (const line of lines) {
      if (isNews(line)) onProgress();
      error = parseError(line) ?? error;
    }
  }
  return parseError(rest) ?? error;
}

/** Creates a function that reports whether a line differs from the last one of its layer. */
function createLineFilter(): (line: string) => boolean {
  const lastOf = new Map<string, string>();
  return (line) => {
    const layer = /"id":"([^"]*)"/.exec(line)?.[1] ?? "";
    if (lastOf.get(layer) === line || (lastOf.size >= layersMax && !lastOf.has(layer)))
      return false;
    lastOf.set(layer, line);
    return true;
  };
}

function parseError(line: string): string | undefined {
  if (!line.includes('"error')) return undefined;
  try {
    const { error, errorDetail } = progressLine.parse(JSON.parse(line));
    return errorDetail?.message ?? error;
  } catch {
    return truncate(line, messageCharsMax);
  }
}
