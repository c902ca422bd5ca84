import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("dns-client.py", import.meta.url));
const timeoutSeconds = 2;

type RecordType = "A" | "AAAA" | "CNAME" | "SRV" | "PTR" | "ANY";

export interface DnsAnswer {
  status: "NOERROR" | "NXDOMAIN" | "SERVFAIL" | "REFUSED" | "NOTIMP" | "TIMEOUT";
  truncated?: boolean;
  records: { type: number; ttl: number; data: string }[];
}

export interface DnsQuery {
  name: string;
  type?: RecordType;
  server: string;
  source?: string;
  tcp?: boolean;
}

/** A process that sends DNS queries, one at a time. See dns-client.py. */
export interface DnsClient {
  ask(query: DnsQuery): Promise<DnsAnswer>;
  /** The data of all records, or the status of an answer that is not NOERROR. */
  resolve(query: DnsQuery): Promise<string[] | DnsAnswer["status"]>;
  close(): void;
}

/** @param enter the program that enters a namespace, with its arguments */
export function startDnsClient(enter: readonly [string, ...string[]]): DnsClient {
  const [first, ...rest] = enter;
  const child = spawn(first, [...rest, "python3", program], { stdio: ["pipe", "pipe", "inherit"] });
  const waiting: ((answer: DnsAnswer) => void)[] = [];
  createInterface({ input: child.stdout }).on("line", (line) =>
    waiting.shift()?.(JSON.parse(line) as DnsAnswer),
  );
  const ask = (query: DnsQuery) =>
    new Promise<DnsAnswer>((resolve, reject) => {
      if (child.exitCode !== null) return reject(new Error("the DNS client has ended"));
      waiting.push(resolve);
      child.stdin.write(`${JSON.stringify({ type: "A", timeout: timeoutSeconds, ...query })}\n`);
      return undefined;
    });
  return {
    ask,
    async resolve(query) {
      const { status, records } = await ask(query);
      return status === "NOERROR" ? records.map(({ data }) => data) : status;
    },
    close: () => void child.kill("SIGKILL"),
  };
}
