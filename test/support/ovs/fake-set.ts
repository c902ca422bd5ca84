import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { addNamespace } from "../network/machine-traces.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("fake-set.py", import.meta.url));
const interfaceName = "eth0";

export interface FakeSetOptions {
  name: string;
  /** The namespace of the set, which the call creates. */
  namespace: string;
  /** The namespace with the switch; undefined for the machine's. */
  hostNamespace?: string;
  /** The host's end of the link. */
  hostEnd: string;
  /** The other end, if the link exists. Otherwise the call creates it. */
  containerEnd?: string;
  mac: string;
  /** With prefix lengths. */
  addresses: readonly string[];
  mtu: number;
  /** For the netdev datapath, which computes no checksums. */
  disablesChecksumOffload: boolean;
}

type Protocol = "tcp" | "udp" | "icmp";

/** A network namespace with one link, and a process in it. See fake-set.py. */
export interface FakeSet {
  name: string;
  /** Frames that the interface has received. A test may empty it. */
  received: Buffer[];
  /** Sends `text` and returns the answer, or "error: …" if none arrives in time. */
  probe(protocol: Protocol, address: string, options?: ProbeOptions): Promise<string>;
  /** Opens a TCP connection, and returns a function that sends a text on it. */
  connect(address: string, port?: number): Promise<(text: string) => Promise<string>>;
  /**
   * Opens a TCP connection on which the server sends a text every 50 ms, for 30 s. Returns a
   * function that receives the next one, or "error: …" if none arrives in time.
   */
  subscribe(address: string): Promise<(timeoutMs: number) => Promise<string>>;
  /**
   * Opens one connection after another, each with one answer. Returns a function that stops and
   * counts the answers by the name of the set, and errors by "error: …". Meanwhile the set records
   * no received frames.
   */
  startLoad(
    protocol: "tcp" | "udp",
    address: string,
    options?: { timeoutMs?: number },
  ): Promise<() => Promise<Record<string, number>>>;
  sendFrame(frame: Buffer): Promise<void>;
  /** Runs a program in the namespace of the set. */
  run(program: string, ...args: string[]): Promise<void>;
  close(): Promise<void>;
}

interface ProbeOptions {
  text?: string;
  timeoutMs?: number;
  /** For TCP and UDP. */
  sourcePort?: number;
  /** 7000 by default, at which each fake set answers. */
  port?: number;
}

const answerTimeoutMs = 30_000;

/**
 * Creates the namespace and the link, and starts the process. The link is not a port yet. The other
 * interfaces of the host are out of reach for the set (see src/host-adapters/links).
 */
export async function startFakeSet(options: FakeSetOptions): Promise<FakeSet> {
  const { name, namespace, addresses, mtu } = options;
  const inside = (...args: string[]) => run("ip", ["netns", "exec", namespace, ...args]);
  await addNamespace(namespace);
  const close = async () => {
    await run("ip", ["netns", "delete", namespace]);
  };
  try {
    await attachLink(options);
    // Addresses are usable immediately, and no timer of the kernel sends requests for neighbors.
    const settings = [
      `echo 0 >/proc/sys/net/ipv6/conf/${interfaceName}/accept_dad`,
      `echo 86400000 >/proc/sys/net/ipv4/neigh/${interfaceName}/base_reachable_time_ms`,
      `echo 86400000 >/proc/sys/net/ipv6/neigh/${interfaceName}/base_reachable_time_ms`,
    ];
    await inside("sh", "-c", settings.join(" && "));
    if (options.disablesChecksumOffload) await inside("ethtool", "-K", interfaceName, "tx", "off");
    const script = [
      "link set lo up",
      `link set ${interfaceName} mtu ${mtu} up`,
      ...addresses.map((address) => `addr add ${address} dev ${interfaceName}`),
    ];
    for (const line of script) await run("ip", ["-n", namespace, ...line.split(" ")]);
    const set = await startProcess(name, namespace);
    return {
      ...set,
      run: async (...command) => {
        await inside(...command);
      },
      close: async () => {
        await set.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function attachLink(options: FakeSetOptions): Promise<void> {
  const { namespace, hostNamespace, hostEnd, containerEnd, mac, mtu } = options;
  const inHost = hostNamespace === undefined ? [] : ["-n", hostNamespace];
  const ip = (...args: string[]) => run("ip", [...inHost, ...args]);
  if (containerEnd !== undefined) {
    await ip("link", "set", containerEnd, "netns", namespace, "name", interfaceName);
    return;
  }
  const peer = ["peer", "name", interfaceName, "netns", namespace, "address", mac];
  await ip("link", "add", hostEnd, "mtu", String(mtu), "type", "veth", ...peer);
  const script = [
    `echo 8 >/proc/sys/net/ipv4/conf/${hostEnd}/arp_ignore`,
    `echo 1 >/proc/sys/net/ipv4/conf/${hostEnd}/rp_filter`,
    `echo 1 >/proc/sys/net/ipv6/conf/${hostEnd}/disable_ipv6`,
  ].join(" && ");
  await (hostNamespace === undefined
    ? run("sh", ["-c", script])
    : run("ip", ["netns", "exec", hostNamespace, "sh", "-c", script]));
  await ip("link", "set", hostEnd, "up");
}

async function startProcess(name: string, namespace: string): Promise<Omit<FakeSet, "run">> {
  const args = ["--pdeathsig", "KILL", "--", "ip", "netns", "exec", namespace];
  const child = spawn("setpriv", [...args, "/usr/bin/python3", program, name, interfaceName], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const received: Buffer[] = [];
  const waiting = new Map<number, (answer: string) => void>();
  createInterface(child.stdout).on("line", (line) => {
    const message = JSON.parse(line) as {
      frame?: string;
      id?: number;
      text?: string;
      error?: string;
    };
    if (message.frame !== undefined) received.push(Buffer.from(message.frame, "hex"));
    else waiting.get(message.id ?? 0)?.(message.text ?? `error: ${message.error}`);
  });
  let lastId = 0;
  const awaitAnswer = (id: number) =>
    new Promise<string>((resolve, reject) => {
      const late = () => reject(new Error(`${name} does not answer`));
      const timer = setTimeout(late, answerTimeoutMs);
      waiting.set(id, (answer) => {
        clearTimeout(timer);
        waiting.delete(id);
        resolve(answer);
      });
    });
  const call = (command: object): Promise<string> => {
    const id = ++lastId;
    child.stdin.write(`${JSON.stringify({ ...command, id })}\n`);
    return awaitAnswer(id);
  };
  await awaitAnswer(0);
  return {
    name,
    received,
    probe: (protocol, address, { text = "hello", timeoutMs = answerTimeoutMs, ...more } = {}) =>
      call({ do: protocol, address, text, timeout: timeoutMs / 1_000, ...more }),
    startLoad: async (protocol, address, { timeoutMs = answerTimeoutMs } = {}) => {
      const load = await call({ do: "startLoad", protocol, address, timeout: timeoutMs / 1_000 });
      return async () => {
        const answers = await call({ do: "stopLoad", load });
        return JSON.parse(answers) as Record<string, number>;
      };
    },
    connect: async (address, port) => {
      const timeout = answerTimeoutMs / 1_000;
      const connection = await call({ do: "connect", address, port, timeout });
      return (text) => call({ do: "talk", connection, text, timeout });
    },
    subscribe: async (address) => {
      const timeout = answerTimeoutMs / 1_000;
      const connection = await call({ do: "connect", address, timeout });
      await call({ do: "talk", connection, text: "stream", timeout });
      return (timeoutMs) => call({ do: "hear", connection, timeout: timeoutMs / 1_000 });
    },
    sendFrame: async (frame) => {
      await call({ do: "send", frame: frame.toString("hex") });
    },
    close: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
