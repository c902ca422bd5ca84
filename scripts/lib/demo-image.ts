import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A web server of about two megabytes: only Debian's static BusyBox. */
export const demoImage = "berth-demo/web:1";
const applets = ["sh", "httpd", "hostname", "mkdir", "sleep", "cat"];

/** Builds the image and imports it into Docker, without a registry. */
export async function importDemoImage(): Promise<void> {
  const root = await mkdtemp(path.join(tmpdir(), "berth-demo-image-"));
  try {
    for (const folder of ["bin", "tmp", "www", "proc", "sys", "dev", "etc"])
      await mkdir(path.join(root, folder));
    await copyFile("/bin/busybox", path.join(root, "bin/busybox"));
    for (const applet of applets) await symlink("busybox", path.join(root, "bin", applet));
    const tar = spawn("tar", ["-C", root, "-c", "."], { stdio: ["ignore", "pipe", "inherit"] });
    const importing = spawn("docker", ["import", "--change", "ENV PATH=/bin", "-", demoImage], {
      stdio: ["pipe", "ignore", "inherit"],
    });
    tar.stdout.pipe(importing.stdin);
    const [exitCode] = (await once(importing, "close")) as [number | null];
    if (exitCode !== 0) throw new Error(`docker import ended with exit code ${exitCode}`);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Ids of all images, so that the demo can later identify its own. */
export async function listImageIds(): Promise<Set<string>> {
  const { stdout } = await run("docker", ["image", "ls", "--quiet", "--no-trunc"]);
  return new Set(stdout.split("\n").filter((line) => line !== ""));
}

/** Removes Berth's new images, unless they are in use. */
export async function removeNewImages(before: ReadonlySet<string>): Promise<void> {
  const format = "{{.ID}} {{.Repository}}";
  const { stdout } = await run("docker", ["image", "ls", "--no-trunc", "--format", format]);
  for (const line of stdout.split("\n")) {
    const [id = "", repository = ""] = line.split(" ");
    if (id === "" || before.has(id) || !repository.startsWith("berth")) continue;
    await run("docker", ["image", "rm", id]).catch(() => undefined);
  }
}

/** Names of the containers of a host's sets, running or not. */
export async function listContainers(hostId: string): Promise<string[]> {
  const filter = `label=berth.host=${hostId}`;
  const { stdout } = await run("docker", [
    "ps",
    "--all",
    `--filter=${filter}`,
    "--format={{.Names}}",
  ]);
  return stdout.split("\n").filter((line) => line !== "");
}

export async function removeContainers(names: readonly string[]): Promise<void> {
  if (names.length > 0) await run("docker", ["rm", "--force", "--volumes", ...names]);
}

/** Remaining cgroups of sets; none after the sets are deleted. */
export async function listSetCgroups(setIds: readonly string[]): Promise<string[]> {
  const { stdout } = await run("find", ["/sys/fs/cgroup", "-type", "d", "-name", "*set_*"], {
    maxBuffer: 16 * 2 ** 20,
  }).catch((error: unknown) => ({ stdout: (error as { stdout?: string }).stdout ?? "" }));
  return stdout.split("\n").filter((line) => setIds.some((id) => line.includes(id)));
}
