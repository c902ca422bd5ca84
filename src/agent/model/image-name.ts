const digestPattern = /@sha256:[0-9a-f]{64}$/;
const tagPattern = /:[\w][\w.-]{0,127}$/;

/**
 * Formats an image reference as the daemon lists it (Docker's familiar name). It has no
 * "docker.io/" and no "library/". It has the tag "latest" by default, and no tag beside a digest.
 */
export function familiarName(reference: string): string {
  const [digest = ""] = digestPattern.exec(reference) ?? [];
  let name = reference.slice(0, reference.length - digest.length);
  const [tag = ""] = tagPattern.exec(name) ?? [];
  name = name.slice(0, name.length - tag.length);
  name = name.replace(/^(?:index\.)?docker\.io\//, "").replace(/^library\//, "");
  return `${name}${digest || tag || ":latest"}`;
}
