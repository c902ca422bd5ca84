import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { openSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import Docker from "dockerode";
import { pack } from "tar-stream";
import { waitUntil } from "../wait-until.ts";

/**
 * A file system with Debian's static BusyBox and a link for each of its programs: `httpd`, `sh`,
 * `nc`, `wget`...
 */
export const baseImage = "berth-test/busybox:1";

/** The socket of the daemon that the tests use. The Docker client reads the same variable. */
export const dockerSocketPath = (
  process.env["DOCKER_HOST"] ?? "unix:///var/run/docker.sock"
).replace("unix://", "");

/** The folder for the log of a daemon that is started here; git ignores it. */
const stateDirectory = fileURLToPath(new URL("../../../.berth", import.meta.url));
const daemonDeadlineMs = 60_000;
const contentLabel = "berth.test.content";
/** Increment it when the tar changes other than by its BusyBox. */
const contentVersion = "1";

/**
 * Ensures that a Docker daemon answers on the local socket and has `baseImage`. It does not stop a
 * daemon that it started, because other runs and users may use it by then.
 */
export async function ensureDocker(): Promise<void> {
  const docker = new Docker();
  if (!(await answers(docker))) {
    await startDaemon();
    await waitUntil(`dockerd answers (log: ${stateDirectory}/dockerd.log)`, () => answers(docker), {
      deadlineMs: daemonDeadlineMs,
      everyMs: 100,
    });
  }
  await ensureBaseImage(docker);
}

async function answers(docker: Docker): Promise<boolean> {
  return docker.ping().then(
    () => true,
    () => false,
  );
}

async function startDaemon(): Promise<void> {
  await mkdir(stateDirectory, { recursive: true });
  const log = openSync(`${stateDirectory}/dockerd.log`, "a");
  const daemon = spawn("dockerd", [], { detached: true, stdio: ["ignore", log, log] });
  daemon.on("error", (error) => {
    console.error(`dockerd cannot be started (${error.message}): run scripts/setup`);
  });
  daemon.unref();
}

/** Imports the image unless the daemon has an image with the same content label. */
export async function ensureBaseImage(docker: Docker): Promise<void> {
  const busybox = await readFile("/bin/busybox");
  const content = createHash("sha256").update(contentVersion).update(busybox).digest("hex");
  const existing = await docker
    .getImage(baseImage)
    .inspect()
    .catch(() => undefined);
  if (existing?.Config.Labels?.[contentLabel] === content) return;
  const [repo, tag] = baseImage.split(":");
  const stream = await docker.importImage(await packBaseImage(busybox), {
    fromSrc: "-",
    repo,
    tag,
    changes: [`LABEL ${contentLabel}=${content}`, 'CMD ["/bin/sh"]', "ENV PATH=/bin"],
  });
  for await (const chunk of stream) {
    if (String(chunk).includes('"error"')) throw new Error(`docker import: ${String(chunk)}`);
  }
}

/** Packs the same bytes for the same BusyBox: fixed times, owners and order. */
async function packBaseImage(busybox: Buffer): Promise<Readable> {
  const { stdout } = await promisify(execFile)("/bin/busybox", ["--list"]);
  const applets = stdout.split("\n").filter((name) => name !== "" && name !== "busybox");
  if (!applets.includes("httpd")) {
    throw new Error("/bin/busybox has no httpd: install the package busybox-static");
  }
  const tar = pack();
  const mtime = new Date(0);
  for (const name of ["bin", "etc", "proc", "root", "sys", "dev", "www"]) {
    tar.entry({ name, type: "directory", mode: 0o755, mtime });
  }
  tar.entry({ name: "tmp", type: "directory", mode: 0o1777, mtime });
  tar.entry({ name: "etc/passwd", mtime }, "root:x:0:0:root:/root:/bin/sh\n");
  tar.entry({ name: "etc/group", mtime }, "root:x:0:\n");
  tar.entry({ name: "bin/busybox", mode: 0o755, mtime }, busybox);
  for (const applet of applets.toSorted()) {
    tar.entry({ name: `bin/${applet}`, type: "symlink", linkname: "busybox", mtime });
  }
  tar.finalize();
  return Readable.from(tar);
}
