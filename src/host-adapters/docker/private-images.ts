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

/**
 * True if a tenant needs no pull to use an image that the host has.
 *
 * Docker also finds an image by a prefix of its id. Such a name proves no access. A pulled image
 * without any mark may be a private one whose mark was not recorded. If a tenant of this host has a
 * credential for its registry, only a new pull shows who may use it.
 */
export function isUsableBy(
  { references }: ImageReferences,
  wanted: { reference: string; tenant: string; hasCredentials: boolean },
): boolean {
  const { reference, tenant, hasCredentials } = wanted;
  if (!references.includes(familiarName(reference))) return false;
  const marks = references.filter(isPrivateMark);
  if (marks.length > 0) return marks.some((mark) => mark.startsWith(toTenantPrefix(tenant)));
  return !hasCredentials || references.some(isAnyMark) || !isPulled(references, reference);
}

/** Docker records a digest for each image that it pulls, and for none that it loads or builds. */
function isPulled(references: readonly string[], reference: string): boolean {
  const prefix = `${toRepository(familiarName(reference))}@`;
  return references.some((name) => name.startsWith(prefix));
}

function isAnyMark(name: string): boolean {
  return /^berth-(?:pulled|private):/.test(name);
}

/**
 * Records a successful pull. An anonymous one proves that everyone has access, and one with a
 * credential that this tenant has.
 *
 * Until then the image has no mark (see isUsableBy).
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
  const colon = added.lastIndexOf(":"); // a registry may have a port
  const repo = added.slice(0, colon);
  const tag = added.slice(colon + 1);
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
    .filter((name) => !isAnyMark(name))
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
