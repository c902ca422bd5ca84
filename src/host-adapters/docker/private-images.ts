import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { familiarName } from "../../agent/model/image-name.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { findImage, type ImageReferences } from "./find-image.ts";

const markName = "berth-private";
const markTimeoutMs = 20_000;

/**
 * Private images: those that a tenant pulled with a credential, and that no other way has brought
 * to this host. All sets of a host share its images. So another tenant that knows the name of a
 * private image must pull it too, which proves that the registry gives it access.
 *
 * The record is a reference in the daemon for each tenant that has proved it: "berth-private:" with
 * hashes of the tenant and of the name. No file has it.
 */
function toPrivateMark(tenant: string, reference: string): string {
  return `${toTenantPrefix(tenant)}${hashName(reference)}`;
}

export function isPrivateMark(reference: string): boolean {
  return reference.startsWith(`${markName}:`);
}

/** The marks among the references of an image that pulls by this name have set. */
export function privateMarksOf(references: readonly string[], reference: string): string[] {
  const suffix = `-${hashName(reference)}`;
  return references.filter((mark) => isPrivateMark(mark) && mark.endsWith(suffix));
}

/** True if a tenant needs no pull to use an image that the host has. */
export function isUsableBy({ references }: ImageReferences, tenant: string): boolean {
  const marks = references.filter(isPrivateMark);
  return marks.length === 0 || marks.some((mark) => mark.startsWith(toTenantPrefix(tenant)));
}

/**
 * Records a successful pull. An anonymous one proves that everyone has access, and one with a
 * credential that this tenant has.
 *
 * Until then the image is like a public one: a set of another tenant that starts at that moment can
 * use it.
 */
export async function recordAccess(
  docker: Docker,
  pulled: { reference: string; tenant: string; isAnonymous: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { reference, tenant, isAnonymous } = pulled;
  const image = await findImage(docker, reference, signal);
  if (!image) return;
  const marks = image.references.filter(isPrivateMark);
  if (isAnonymous) for (const mark of marks) await removeReference(docker, mark, signal);
  else if (marks.length > 0 || isOnlyKnownAs(image, reference))
    await addReference(docker, reference, toPrivateMark(tenant, reference), signal);
}

/** Adds a reference to an image of the daemon. */
export async function addReference(
  docker: Docker,
  reference: string,
  added: string,
  signal: AbortSignal,
): Promise<void> {
  const [repo = "", tag = ""] = added.split(":");
  await callDocker({ phase: "image", timeoutMs: markTimeoutMs }, signal, (abortSignal) =>
    docker.getImage(reference).tag({ repo, tag, abortSignal }),
  );
}

async function removeReference(docker: Docker, name: string, signal: AbortSignal): Promise<void> {
  try {
    await callDocker({ phase: "image", timeoutMs: markTimeoutMs }, signal, (abortSignal) =>
      docker.getImage(name).remove({ force: false, abortSignal }),
    );
  } catch (error) {
    if (dockerStatus(error) !== 404) throw error;
  }
}

/** False if an operator loaded the image, or if a pull by another name brought it. */
function isOnlyKnownAs({ references }: ImageReferences, reference: string): boolean {
  const repository = toRepository(familiarName(reference));
  return references
    .filter((name) => !/^berth-(?:pulled|private):/.test(name))
    .every((name) => toRepository(name) === repository);
}

function toRepository(name: string): string {
  return name.replace(/@.*$/, "").replace(/:[^/:]*$/, "");
}

function toTenantPrefix(tenant: string): string {
  return `${markName}:${hash(tenant)}-`;
}

function hashName(reference: string): string {
  return hash(familiarName(reference));
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}
