import { chown, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChildServer, startChildServer } from "../servers/child-server.ts";
import { waitUntil } from "../wait-until.ts";

/** A name server that is restarted whenever it ends, as by systemd/berth-dns.service. */
export interface UnboundUnit {
  /** For the settings of the name server. */
  folder: string;
  findPid(): Promise<number>;
  /** Ends the server for good. Its files stay, until `close`. */
  stop(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Restarts unbound in a namespace with the files of a new folder, as soon as they exist. The folder
 * above belongs to the user of unbound, as in the package. The processes have a PID namespace of
 * their own, so all of them end with the tests.
 */
export async function startUnboundUnit(namespace: string): Promise<UnboundUnit> {
  const parent = await mkdtemp(join(tmpdir(), "berth-dns-"));
  const { uid, gid } = await stat("/var/lib/unbound");
  await chown(parent, uid, gid);
  const folder = join(parent, "berth");
  const config = join(folder, "unbound.conf");
  // Without its file, unbound would start with other settings.
  const once = `unbound-checkconf ${config} && unbound -d -c ${config}`;
  const loop = `while :; do ${once}; sleep 0.2; done`;
  const server = start(namespace, loop);
  return {
    folder,
    findPid: () => waitUntil("unbound runs", () => findPid(config)),
    stop: () => server.kill(),
    close: async () => {
      await server.kill();
      await rm(parent, { recursive: true, force: true });
    },
  };
}

/** Starts a resolver of the outside, which knows only these records. */
export async function startResolver(
  namespace: string,
  address: string,
  records: readonly string[],
): Promise<{ close(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "berth-resolver-"));
  const config = join(folder, "unbound.conf");
  const lines = [
    "server:",
    '  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n  num-threads: 1',
    `  interface: ${address}`,
    "  access-control: 0.0.0.0/0 allow",
    '  local-zone: "." static',
    ...records.map((record) => `  local-data: "${record}"`),
  ];
  await writeFile(config, `${lines.join("\n")}\n`);
  const server = start(namespace, `unbound -d -c ${config}; sleep 1000`);
  await waitUntil("the resolver runs", () => findPid(config));
  return {
    close: async () => {
      await server.kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function start(namespace: string, script: string): ChildServer {
  const inNamespace = ["netns", "exec", namespace];
  const contained = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script];
  return startChildServer("ip", [...inNamespace, ...contained]);
}

async function findPid(config: string): Promise<number | undefined> {
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const text = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (text === ["unbound", "-d", "-c", config, ""].join("\0")) return Number(pid);
  }
  return undefined;
}
